"""Kubernetes: a TrainJob for Kubeflow Trainer, and the same world as a bare JobSet.

Manifests are JSON, which kubectl reads as it reads YAML: no emitter, nothing to quote wrongly.
Those of a fleet hold `${WORLD}` and the like, which a script fills in.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from crore import __version__
from crore.errors import InputError
from crore.launch.export import Export, File
from crore.launch.fleet import FAR, NEAR, fleet_words, lighthouses
from crore.launch.fleet import PORT as LIGHTHOUSE_PORT
from crore.launch.launch import Launch
from crore.launch.trainer import (
    HEALTH,
    PLAN,
    PORT,
    RESTARTS,
    check_trainer,
    health,
    left_out,
    own_catalog,
    package,
    train_words,
)

Json = dict[str, Any]
TRAIN_JOB: Final = "trainjob.json"
JOB_SET: Final = "jobset.json"
LIGHTHOUSE: Final = "lighthouse.json"
FILL: Final = "fill.sh"
WRITTEN_FOR: Final = "Kubeflow Trainer 2.3 (trainer.kubeflow.org/v1alpha1), JobSet v1alpha2"
IMAGE: Final = "crore-train:latest"
"""An image of the user's with crore[train] in it, where none is named."""
CLAIM: Final = "crore-run"
"""The shared volume that checkpoints go to."""
_PLACE, _RUN = "/crore", "/run/crore"
MOST_MAP_BYTES: Final = 1_000_000
"""A ConfigMap holds 1 MiB in all."""


def kubernetes(launch: Launch, plan: str, image: str = IMAGE) -> Export:
    """Return the manifests around a plan's text; those of a fleet with a script that fills them in.

    Raises InputError for a plan that `crore train` does not run or a ConfigMap does not hold.
    """
    check_trainer(launch)
    if len(plan.encode()) > MOST_MAP_BYTES:
        raise InputError(
            f"the plan has {len(plan.encode()):,} bytes and a ConfigMap holds {MOST_MAP_BYTES:,}: "
            "plan it with --top 1"
        )
    script = health(launch)
    data = _object("v1", "ConfigMap", f"{launch.name}-plan", data={PLAN: plan, HEALTH: script.text})
    maps = File(name="configmap.json", text=_text(data))
    train = File(
        name=TRAIN_JOB, text=_text(_list(_runtime(launch, image), _train_job(launch, image)))
    )
    jobs = File(name=JOB_SET, text=_text(_job_set(launch, image)))
    files: tuple[File, ...] = (maps, train, jobs, script)
    if launch.is_fleet:
        light = File(name=LIGHTHOUSE, text=_text(_list(*_lighthouse(launch, image))))
        files = (*files, light, File(name=FILL, text=_fill(launch), runs=True))
    return Export(
        target="kubernetes", written_for=WRITTEN_FOR, files=files, world_file=TRAIN_JOB,
        run=_run(launch),
        needs=(
            f"The image {image}, with {package(launch)} in it (--image names another).",
            f"A PersistentVolumeClaim {CLAIM} that all pods can write (ReadWriteMany).",
            *own_catalog(launch),
        ),
        leaves_out=(
            *left_out(launch),
            "Gang scheduling and queues: label the job for Kueue (kueue.x-k8s.io/queue-name).",
            "Networks of the GPUs (RDMA devices, host network), memory and cores of a pod.",
            "A pod has 600 s to save after SIGTERM, but torchrun gives its ranks 30 s.",
            *(("The fleet's lighthouse seen from other clusters: expose its service yourself.",)
              if launch.islands > 1 else ()),
        ),
    )  # fmt: skip


def _run(launch: Launch) -> tuple[str, ...]:
    """Return how it is started, line by line."""
    instead = f"# or {JOB_SET}, where there is JobSet and no Trainer"
    if not launch.is_fleet:
        return ("kubectl apply -f configmap.json", f"kubectl create -f {TRAIN_JOB}    {instead}")
    needed = lighthouses(launch)
    near = f"LIGHTHOUSE=island-0 ./{FILL} {LIGHTHOUSE} | kubectl apply -f -    # for each island"
    far = f"LIGHTHOUSE=fleet ./{FILL} {LIGHTHOUSE} | kubectl apply -f -    # once"
    given = f"{FAR}=HOST:{LIGHTHOUSE_PORT} " if FAR in needed else ""
    return (
        "kubectl apply -f configmap.json    # on the cluster of every island",
        *((near,) if NEAR in needed else ()), *((far,) if FAR in needed else ()),
        f"WORLD=0 {given}./{FILL} {TRAIN_JOB} | kubectl create -f -    {instead}",
    )  # fmt: skip


def _text(record: Json) -> str:
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def _object(version: str, kind: str, name: str, **parts: Any) -> Json:
    stamp = {"crore.dev/written-by": f"crore {__version__}", "crore.dev/written-for": WRITTEN_FOR}
    return {
        "apiVersion": version, "kind": kind, "metadata": {"name": name, "annotations": stamp},
        **parts,
    }  # fmt: skip


def _list(*items: Json) -> Json:
    return {"apiVersion": "v1", "kind": "List", "items": list(items)}


def _world(launch: Launch) -> str:
    """Return the name of one world's job."""
    return f"{launch.name}-w${{WORLD}}" if launch.is_fleet else launch.name


def _cards(launch: Launch) -> Json:
    """Return what one pod takes of its node."""
    if launch.accelerator.cpu:
        return {"limits": {"cpu": str(launch.node_gpus)}}
    maker = "amd.com/gpu" if launch.accelerator.name.startswith("mi") else "nvidia.com/gpu"
    return {"limits": {maker: str(launch.node_gpus)}}


def _words(launch: Launch) -> list[str]:
    """Return the trainer's command behind torchrun's own flags."""
    others = fleet_words(launch, "${WORLD}", f"${{{NEAR}}}", f"${{{FAR}}}")
    folders = ("--out", f"{_RUN}/{launch.name}", "--cache", f"{_RUN}/cache")
    return ["-m", *train_words(launch, f"{_PLACE}/{PLAN}"), *others, *folders]


def _pod(launch: Launch, image: str, trainer: Json) -> Json:
    """Return a pod: the node's check first, then the trainer; both see plan and run."""
    mounts = [{"name": "plan", "mountPath": _PLACE}, {"name": "run", "mountPath": _RUN},
              {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108  # fmt: skip
    check = {
        "name": "health", "image": image, "command": ["bash", f"{_PLACE}/{HEALTH}"],
        "resources": _cards(launch), "volumeMounts": mounts[:1],
    }  # fmt: skip
    return {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 600,
        "initContainers": [check],
        "containers": [{"name": "node", "image": image, **trainer, "volumeMounts": mounts}],
        "volumes": [
            {"name": "plan", "configMap": {"name": f"{launch.name}-plan"}},
            {"name": "run", "persistentVolumeClaim": {"claimName": CLAIM}},
            {"name": "shm", "emptyDir": {"medium": "Memory"}},
        ],
    }


def _runtime(launch: Launch, image: str) -> Json:
    """Return the TrainingRuntime: what is the same for every world."""
    step = {"metadata": {"labels": {"trainer.kubeflow.org/trainjob-ancestor-step": "trainer"}}}
    node = {
        "name": "node",
        "template": {**step, "spec": {"template": {"spec": _pod(launch, image, {})}}},
    }
    return _object(
        "trainer.kubeflow.org/v1alpha1", "TrainingRuntime", _runtime_name(launch),
        spec={
            "mlPolicy": {"numNodes": launch.nodes, "torch": {}},
            "template": {
                "spec": {
                    "failurePolicy": {"maxRestarts": RESTARTS}, "replicatedJobs": [node],
                }
            },
        },
    )  # fmt: skip


def _runtime_name(launch: Launch) -> str:
    return f"{_world(launch)}-runtime"


def _train_job(launch: Launch, image: str) -> Json:
    """Return the TrainJob; the runtime tells torchrun who it is (PET_*)."""
    return _object(
        "trainer.kubeflow.org/v1alpha1", "TrainJob", _world(launch),
        spec={
            "runtimeRef": {
                "apiGroup": "trainer.kubeflow.org", "kind": "TrainingRuntime",
                "name": _runtime_name(launch),
            },
            "trainer": {
                "image": image, "command": ["torchrun", *_words(launch)],
                "numNodes": launch.nodes, "numProcPerNode": launch.node_gpus,
                "resourcesPerNode": _cards(launch),
            },
        },
    )  # fmt: skip


def _job_set(launch: Launch, image: str) -> Json:
    """Return the JobSet: one indexed Job, whose first pod is where the ranks meet."""
    name = _world(launch)
    torchrun = [
        "torchrun", f"--nnodes={launch.nodes}", f"--nproc-per-node={launch.node_gpus}",
        "--node-rank=$(NODE)", f"--master-addr={name}-node-0-0.{name}", f"--master-port={PORT}",
        *_words(launch),
    ]  # fmt: skip
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    trainer: Mapping[str, Any] = {
        "command": torchrun,
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": index}}}],
        "resources": _cards(launch),
        "ports": [{"containerPort": PORT}],
    }
    job = {
        "parallelism": launch.nodes, "completions": launch.nodes, "completionMode": "Indexed",
        "backoffLimit": 0, "template": {"spec": _pod(launch, image, dict(trainer))},
    }  # fmt: skip
    return _object(
        "jobset.x-k8s.io/v1alpha2", "JobSet", name,
        spec={
            "failurePolicy": {"maxRestarts": RESTARTS},
            "replicatedJobs": [{"name": "node", "replicas": 1, "template": {"spec": job}}],
        },
    )  # fmt: skip


def _lighthouse(launch: Launch, image: str) -> tuple[Json, Json]:
    """Return a lighthouse, which is started again when it dies, and the service that finds it."""
    name = f"{launch.name}-${{LIGHTHOUSE}}"
    label = {"crore.dev/lighthouse": name}
    command = ["python3", "-m", "crore", "lighthouse", "--port", str(LIGHTHOUSE_PORT)]
    port = [{"containerPort": LIGHTHOUSE_PORT}]
    container = {"name": "lighthouse", "image": image, "command": command, "ports": port}
    template = {"metadata": {"labels": label}, "spec": {"containers": [container]}}
    pods = {
        "replicas": 1, "strategy": {"type": "Recreate"}, "selector": {"matchLabels": label},
        "template": template,
    }  # fmt: skip
    service = {"selector": label, "ports": [{"port": LIGHTHOUSE_PORT}]}
    return (
        _object("apps/v1", "Deployment", name, spec=pods),
        _object("v1", "Service", name, spec=service),
    )


def _fill(launch: Launch) -> str:
    """Return the script that prints a manifest of one world, or of one lighthouse."""
    needed, each = lighthouses(launch), len(launch.worlds_of(0))
    spare = f"(world - {launch.worlds}) % {launch.islands}"  # dealt out to islands in turn
    island = f"$((world < {launch.worlds} ? world / {each} : {spare}))"
    own = f"{launch.name}-island-{island}:{LIGHTHOUSE_PORT}"
    places = ["WORLD=$world"]
    checks = f"world=${{WORLD:?the number of the world, 0 to {launch.worlds - 1}}}\n"
    if NEAR in needed:
        checks += f"near=${{{NEAR}:-{own}}}\n"
        places.append(f"{NEAR}=$near")
    if FAR in needed:
        checks += f"far=${{{FAR}:?HOST:{LIGHTHOUSE_PORT} of {needed[FAR]}}}\n"
        places.append(f"{FAR}=$far")
    edits = " ".join(
        f'-e "s|\\${{{name}}}|{value}|g"' for name, _, value in (it.partition("=") for it in places)
    )
    return f"""\
#!/usr/bin/env bash
# Written by crore {__version__}: prints a manifest with its numbers and addresses, for kubectl.
set -euo pipefail
cd "$(dirname "${{BASH_SOURCE[0]}}")"
file=${{1:?{TRAIN_JOB}, {JOB_SET} or {LIGHTHOUSE}}}
if [ "$file" = {LIGHTHOUSE} ]; then
    whose=${{LIGHTHOUSE:?island-0 to island-{launch.islands - 1}, or fleet}}
    exec sed "s|\\${{LIGHTHOUSE}}|$whose|g" "$file"
fi
{checks}exec sed {edits} "$file"
"""
