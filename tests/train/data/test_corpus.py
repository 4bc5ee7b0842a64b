"""The default corpus: what this Python says of itself."""

from __future__ import annotations

import pytest

from crore.errors import InputError
from crore.train.data import corpus
from crore.train.data.corpus import Document

MODULE = '''"""Tools for tea."""
def pour(cup, *, hot=True):
    """Fill the cup."""
class Pot:
    """Holds tea."""
    def lid(self): pass
    async def boil(self):
        """Heat it.

        Slowly."""
if True:
    def late():
        """Found under an if."""
'''


@pytest.fixture
def library(tmp_path):
    for name, text in {
        "tea/__init__.py": MODULE, "bare.py": "import tea\n",
        "table.py": "t = [0x1234, 0x5678]\n" * 9,
        "test/test_tea.py": MODULE, "site-packages/other.py": MODULE, "broken.py": "def (\n",
        "latin.py": "# -*- coding: ascii -*-\n", "_sysconfigdata_x.py": "x = '/home'\n",
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: ascii -*-\n\xe9 = 1\n")
    return tmp_path


def test_a_page_holds_the_docstrings_of_a_module_under_their_names(library):
    (page,) = corpus.documentation(library)
    assert page == Document(
        "tea\n===\n\nTools for tea.\n\ntea.pour(cup, *, hot=True)\n\nFill the cup.\n\n"
        "tea.Pot\n\nHolds tea.\n\ntea.Pot.boil(self)\n\nHeat it.\n\nSlowly.\n\n"
        "tea.late()\n\nFound under an if.\n",
        "tea",
    )


def test_tables_tests_and_other_packages_are_left_out_of_the_code(library):
    assert [document.group for document in corpus.code(library)] == ["bare", "broken", "tea"]


def test_a_python_without_source_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match="no source of its library"):
        list(corpus.code(tmp_path))


def test_this_python_has_megabytes_of_both_and_the_same_each_time():
    root = corpus.library_folder()
    code = list(corpus.code(root))
    assert code == list(corpus.code(root))
    assert 4e6 < sum(len(document.text) for document in code) < 12e6
    groups = {document.group for document in code}
    assert {"argparse", "asyncio.tasks"} <= groups
    assert not {"html.entities", "stringprep", "encodings.cp037"} & groups
    names = [path.name for path in corpus.library_files(root)]
    assert "topics.py" in names
    assert names == [path.name for path in corpus.library_files(root)]
