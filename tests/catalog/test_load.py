"""The catalogue finds rows by exact name, merges a user's file, refuses rows without a source."""

from __future__ import annotations

import subprocess
import sys

import pytest

from crore.catalog import load_catalog
from crore.catalog.load import DATA, shipped
from crore.catalog.rows import make_table
from crore.errors import InputError, UnknownName
from crore.io import read_toml

SECTIONS = ("models", "accelerators", "fabrics", "clusters")
SAID = 'source = "a"\ndate = "2025"'
MINE = """
[models.mine]
base = "llama3-8b"
layers = 4
source = "mine"
date = "2025"

[accelerators.my-card]
base = "rtx-3090"
aliases = ["the-box"]
nic_gbit_per_s = 100
source = "measured"
date = 2025-06-01

[fabrics.cupboard]
topology = "fat-tree"
tiers = 1
radix = 8
source = "mine"
date = "2025"

[clusters.home]
accelerator = "my-card"
gpus = 4
fabric = "cupboard"
source = "mine"
date = "2025"
"""


@pytest.fixture
def write(tmp_path):
    def _write(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return _write


@pytest.mark.parametrize("section", SECTIONS)
def test_no_two_rows_share_a_name(section):
    rows = read_toml(DATA / f"{section}.toml")
    names = [key.lower() for key in rows if not key.startswith("_")]
    names += [alias.lower() for row in rows.values() for alias in row.get("aliases", ())]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("section", SECTIONS)
def test_every_shipped_row_states_whether_it_was_verified(section):
    table = shipped(section)
    for key in filter(table.find, table.rows):
        assert isinstance(table.merged(key).get("verified"), bool), key


def test_bases_are_not_rows():
    assert not [name for name in load_catalog().models() if name.startswith("_")]
    with pytest.raises(UnknownName):
        load_catalog().model("_llama_style")


def test_a_users_rows_join_the_shipped_ones(write):
    catalog = load_catalog(write(MINE))
    assert catalog.model("mine").layers == 4
    assert catalog.model("mine").hidden == catalog.model("llama3-8b").hidden
    assert catalog.accelerator("THE-BOX").nic_bytes_per_s == 12.5e9
    assert catalog.accelerator("my-card").provenance.date == "2025-06-01"
    assert catalog.cluster("home").accelerator == "my-card"
    assert catalog.fabric("cupboard").max_endpoints == 8
    assert "mine" in catalog.models()
    assert "mine" not in load_catalog().models()


def test_a_user_may_replace_part_of_a_shipped_row(write):
    text = '[accelerators.h100-sxm]\nbase = "h100-sxm"\ntdp_w = 600\nsource = "us"\ndate = "2025"\n'
    gpu = load_catalog(write(text)).accelerator("h100")
    assert (gpu.tdp_w, gpu.peak_flops["bf16"]) == (600, 989e12)
    assert (gpu.provenance.source, gpu.provenance.verified) == ("us", False)
    assert load_catalog().accelerator("h100").tdp_w == 700


@pytest.mark.parametrize("missing", ["source", "date"])
def test_a_users_row_needs_its_own_source_and_date(write, missing):
    lines = [line for line in MINE.splitlines() if not line.startswith(missing)]
    with pytest.raises(InputError, match=f"has no {missing}"):
        load_catalog(write("\n".join(lines)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[model.x]\nlayers = 1", "did you mean models"),
        ("[models]\nx = 3", r"\[models.NAME\]"),
        ("models = 3", r"\[models.NAME\]"),
        ("[models.x\n", "not valid TOML"),
        ('[models.x]\nbase = ["gpt2"]\n' + SAID, "is no row"),
        (
            '[accelerators.x]\nbase = "h100-sxm"\nmemory_mib = 0\n' + SAID,
            "memory_mib is a number > 0",
        ),
        (
            '[clusters.x]\naccelerator = "h1000"\ngpus = 8\nfabric = "none"\n' + SAID,
            "unknown GPU in cluster 'x' 'h1000'.*h100",
        ),
        (
            '[clusters.x]\naccelerator = "h100"\ngpus = 8\nfabric = "rail"\n' + SAID,
            "unknown fabric in cluster 'x' 'rail'",
        ),
        (
            '[clusters.x]\naccelerator = "h100"\ngpus = 8\nfabric = "none"\nsites = 2\n'
            'wan = "post"\n' + SAID,
            "unknown fabric in cluster 'x' 'post'",
        ),
        ("[models.x]\nlayers = 1\n" + SAID, "needs"),
        ('[models.x]\nbase = "llama9"\n' + SAID, "llama9"),
        ('[models.x]\nbase = "x"\n' + SAID, "leads back"),
        (
            f'[models.x]\nbase = "y"\n{SAID}\n[models.y]\nbase = "x"\n{SAID}',
            "leads back",
        ),
        (
            '[models.x]\nbase = "gpt2"\nlayer = 1\n' + SAID,
            "did you mean layers",
        ),
        (
            '[models.x]\nbase = "gpt2"\naliases = ["llama-2-7b"]\n' + SAID,
            "claimed by",
        ),
        ('[models.gpt3]\nbase = "gpt2"\n' + SAID, "claimed by"),
        ('[models.x]\nbase = "gpt2"\naliases = "y"\n' + SAID, "aliases"),
        ('[models.x]\nbase = "gpt2"\nfigures = 3\n' + SAID, "figures"),
    ],
)
def test_a_bad_file_is_refused_in_one_line(write, text, message):
    with pytest.raises(InputError, match=message) as caught:
        load_catalog(write(text))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 240


def test_a_cluster_names_its_parts_by_their_keys(write):
    row = '[clusters.x]\naccelerator = "H100"\ngpus = 8\nfabric = "NONE"\n' + SAID
    cluster = load_catalog(write(row)).cluster("x")
    assert (cluster.accelerator, cluster.fabric) == ("h100-sxm", "single-node")


@pytest.mark.parametrize("name", ["", "  "])
def test_no_name_is_no_model_and_no_folder(name):
    with pytest.raises(UnknownName, match=f"unknown model '{name}'"):
        load_catalog().model(name)


def test_a_home_of_nobody_is_no_file():
    with pytest.raises(InputError, match="no file or folder"):
        load_catalog().model("~no-such-user/config.json")


def test_spaces_around_a_name_do_no_harm():
    assert load_catalog().accelerator(" H100-SXM ").name == "h100-sxm"
    assert load_catalog().model("gpt2 ").name == "gpt2"


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file"):
        load_catalog(tmp_path / "none.toml")


def test_two_rows_claiming_one_name_are_refused():
    with pytest.raises(InputError, match="claimed by 'a' and by 'b'"):
        make_table("model", "crore catalog models", {"a": {"aliases": ["B"]}, "b": {}})


def test_aliases_can_be_listed():
    assert "h100" in load_catalog().aliases("accelerators", "h100-sxm")


def test_importing_the_room_reads_no_data_and_no_heavy_package():
    heavy = "pydantic numpy torch rich tomllib"
    program = (
        "import sys; before = set(sys.modules); import crore.catalog;"
        f"print([m for m in '{heavy}'.split()[:4] if m in sys.modules]);"
        "from crore.catalog.load import shipped; print(shipped.cache_info().currsize)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.split() == ["[]", "0"]
