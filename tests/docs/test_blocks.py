"""Every block of code in the README and the documentation runs, or says what it needs and is checked."""

import ast
import importlib
import inspect
import re
import shutil
import socket

import pytest

from gradtoken.methods import METHODS
from gradtoken.models.bundled import FOLDER
from tests import towers
from tests.docs import shell
from tests.docs.blocks import ALL, NEEDS, PAGES, ROOT, Block, blocks, prose
from tests.texts import LENGTH, bert, tokenizer

SHOWN = ("text", "json", "yaml", "bibtex", "toml")  # which is read, not run
CODE = [block for block in ALL if block.language in ("python", "sh")]
RUN = sorted({block.page for block in CODE if not block.needs})


def name(page) -> str:
    return str(page.relative_to(ROOT)) if isinstance(page, type(ROOT)) else str(page)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A folder with a classifier of texts, as transformers writes it."""
    folder = tmp_path_factory.mktemp("classifier")
    net = bert(LENGTH)
    net.config.id2label, net.config.label2id = {0: "NEG", 1: "POS"}, {"NEG": 0, "POS": 1}
    net.save_pretrained(folder)
    tokenizer(LENGTH).save_pretrained(folder)
    return folder


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with what the pages speak of: pictures, a table of them, texts, a classifier of texts."""
    pictures = FOLDER / "pictures"
    shutil.copy(pictures / "cat_and_giraffe.jpg", tmp_path / "zoo.jpg")
    (tmp_path / "photos").mkdir()
    for one in ("cat", "giraffe"):
        shutil.copy(pictures / f"{one}.jpg", tmp_path / "photos")
    (tmp_path / "photos" / "labels.csv").write_text("file,name\ncat.jpg,cat\ngiraffe.jpg,giraffe\n")
    (tmp_path / "reviews").mkdir()
    (tmp_path / "reviews" / "one.txt").write_text("the plot is bad, the film never dull")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    return tmp_path


def refuse(self, address):
    raise AssertionError(f"a block asked for {address}; say so above it: <!-- needs: hub -->")


@pytest.fixture
def registry():
    """The methods, put back as they were."""
    kept = dict(METHODS)
    yield
    METHODS.clear()
    METHODS.update(kept)


@pytest.mark.parametrize("page", RUN, ids=name)
def test_blocks_run(page, desk, registry, request):
    """In order, in one namespace, with no network."""
    if page.name == "text.md":
        shutil.copytree(request.getfixturevalue("classifier"), "classifier")
    if page.name == "clip.md":
        towers.saved(towers.clip(), desk / "clip")
    namespace = {"__name__": page.stem}
    for block in blocks(page):
        if block.needs:
            continue
        if block.language == "python":
            exec(block.compiled, namespace)
        elif block.language == "sh":
            for words in block.commands:
                shell.run(words)


@pytest.mark.parametrize("block", [block for block in CODE if block.needs], ids=str)
def test_a_block_that_does_not_run_is_right_as_far_as_can_be_seen(block):
    assert block.needs in NEEDS, f"{block} needs {block.needs!r}; known reasons: {', '.join(NEEDS)}"
    if block.language == "sh":
        for words in block.commands:
            shell.check(words)
    else:
        check_python(block)


def check_python(block: Block) -> None:
    """It compiles, its imports exist, and functions of the package are called with keywords that they have."""
    assert block.compiled
    tree, names = ast.parse(block.code), {"gradtoken": importlib.import_module("gradtoken")}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.split(".")[0] == "gradtoken":
            module = importlib.import_module(node.module)
            names |= {alias.asname or alias.name: getattr(module, alias.name) for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and (function := resolved(node.func, names)) is not None:
            keywords = {keyword.arg: None for keyword in node.keywords if keyword.arg}
            inspect.signature(function).bind(*node.args, **keywords)


def resolved(node: ast.AST, names: dict):
    """The function that `gradtoken.f` or an imported name means, or None."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "gradtoken":
        return getattr(names["gradtoken"], node.attr)
    return None


def test_every_block_says_what_it_is():
    """So that none is left out of these tests by its language."""
    strange = [f"{block}: {block.language!r}" for block in ALL if block.language not in ("python", "sh", *SHOWN)]
    assert not strange, f"expected python, sh or one of {SHOWN} behind the backticks: {strange}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_in_sentences_exist(page):
    for found in re.findall(r"`gradtoken ([^`]+)`", prose(page)):
        words = shell.split(found)
        if not shell.PLACEHOLDER.fullmatch(words[0]) and "=" not in words[0]:  # a method with an option
            shell.mention(words)


def test_the_checks_can_fail(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- needs: hub -->\n```python\nimport gradtoken\ngradtoken.explain('a', modell='b')\n```\n"
        "<!-- needs: hub -->\n```python\nfrom gradtoken.methods import rollot\n```\n"
    )
    unknown, missing = blocks(page)
    with pytest.raises(AttributeError, match="rollot"):
        check_python(missing)
    bad = Block(page, 4, "python", "gradtoken.load('a', weight='b')", "hub")
    with pytest.raises(TypeError, match="unexpected keyword argument 'weight'"):
        check_python(bad)
    check_python(unknown)  # explain takes any option, of any method
    with pytest.raises(Exception, match="No such option: --methd"):
        shell.check(["gradtoken", "explain", "a.jpg", "--methd", "rollout"])
    with pytest.raises(LookupError, match="no method 'rollot'"):
        shell.check(["gradtoken", "explain", "a.jpg", "--method", "rollot"])
    with pytest.raises(LookupError, match="no option of gradtoken 'deep'"):
        shell.check(["srun", "gradtoken", "explain", "a.jpg", "--method", "gradtoken", "--set", "deep=2"])
    with pytest.raises(AssertionError, match="has no --pages"):
        shell.check(["python", "-m", "benchmarks.cost", "--pages"])
    with pytest.raises(AssertionError, match="explain has no --methods"):
        shell.mention(["explain", "--methods"])
    with pytest.raises(AssertionError, match="no command 'explian'"):
        shell.mention(["explian"])
    with pytest.raises(AssertionError, match="needs a reason"):
        shell.run(["make", "demo"])
