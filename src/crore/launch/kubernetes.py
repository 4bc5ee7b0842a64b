"""Kubernetes: a TrainJob for Kubeflow Trainer, and the same world as a bare JobSet.

Manifests are JSON, which kubectl reads as it reads YAML: no emitter, nothing to quote wrongly.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from crore import __version__
from crore.errors import InputError
from crore.launch.export import Export, File
from crore.launch.launch import Launch
from crore.launch.trainer import (
    HEALTH,
    PLAN,
    PORT,
    RESTARTS,
    check_trainer,
    health,
    left_out,
    needs,
    train_words,
)

Json = dict[str, Any]
TRAIN_JOB: Final = "trainjob.json"
JOB_SET: Final = "jobset.json"
WRITTEN_FOR: Final = "Kubeflow Trainer 2.3 (trainer.kubeflow.org/v1alpha1), JobSet v1alpha2"
IMAGE: Final = "crore-train:latest"
"""An image of the user's with crore[train] in it, where none is named."""
CLAIM: Final = "crore-run"
"""The shared volume that checkpoints go to."""
_PLACE, _RUN = "/crore", "/run/crore"
MOST_MAP_BYTES: Final = 1_000_000
"""A ConfigMap holds 1 MiB in all."""


def kubernetes(launch: Launch, plan: str, image: str = IMAGE) -> Export:
    """Return the manifests around a plan's text.

    In a fleet, `${WORLD}` in them is the number of the world, for envsubst to fill in. Raises
    InputError for a plan that `crore train` does not run or a ConfigMap does not hold.
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
    create = f"kubectl create -f {TRAIN_JOB}"
    if launch.is_fleet:
        create = f"WORLD=0 envsubst '$WORLD' < {TRAIN_JOB} | kubectl create -f -"
    return Export(
        target="kubernetes", written_for=WRITTEN_FOR, files=(maps, train, jobs, script),
        world_file=TRAIN_JOB,
        run=(
            "kubectl apply -f configmap.json",
            f"{create}    # or {JOB_SET}, where there is JobSet and no Trainer",
        ),
        needs=(
            f"The image {image}, with crore[train] in it (--image names another).",
            f"A PersistentVolumeClaim {CLAIM} that all pods can write (ReadWriteMany).",
            *needs(launch)[1:],
        ),
        leaves_out=(
            *left_out(launch),
            "Gang scheduling and queues: label the job for Kueue (kueue.x-k8s.io/queue-name).",
            "Networks of the GPUs (RDMA devices, host network), memory and cores of a pod.",
            "A pod has 600 s to save after SIGTERM, but torchrun gives its ranks 30 s.",
        ),
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
    folder = f"{_RUN}/world-${{WORLD}}" if launch.is_fleet else f"{_RUN}/{launch.name}"
    return ["-m", *train_words(launch, f"{_PLACE}/{PLAN}"), "--out", folder,
            "--cache", f"{_RUN}/cache"]  # fmt: skip


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
