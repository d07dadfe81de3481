"""Imports go down only, frameworks are imported where their name stands, and `import regard` imports none."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "regard"

# From the top to the ground: a module may import from its own layer and from those below it. A layer holds the modules
# and packages that it names, and what is in them, but for what is named in another.
LAYERS = [
    ("regard", "regard.__main__"),
    ("regard.cli",),
    ("regard.commands",),
    ("regard.exploring",),
    tuple(
        f"regard.finetuning.{name}"
        for name in ("conduct", "check", "measure", "predict", "search", "export", "int8", "probes", "push", "template")
    ),
    ("regard.finetuning.reporting",),
    ("regard.finetuning.frameworks",),
    ("regard.finetuning.tasks",),
    ("regard.finetuning.training",),
    ("regard.finetuning.runs",),
    ("regard.finetuning.data",),
    ("regard.finetuning",),
    ("regard.inspection",),
    ("regard.looking",),
    ("regard.models",),
    ("regard.nn",),
    ("regard.attention", "regard.weights", "regard.masks", "regard.biases"),
    tuple(
        f"regard._{name}"
        for name in (
            *("check", "plan", "blockwise", "questions", "indexing", "problem", "kernels", "rules", "layout"),
            *(
                "tensors",
                "asking",
                "tiles",
                "transposed",
                "digits",
                "intervals",
                "escapes",
                "files",
                "language",
                "compiled",
            ),
        )
    ),
    ("regard._backends",),
    ("regard.errors",),
    ("regard._spoken", "regard._catalogue"),
]
# Doors: what a package's own file says of all that are in it, a protocol and a list of names, is known below them.
DOORS = {"regard.finetuning.tasks": "regard.finetuning", "regard.finetuning.frameworks": "regard.finetuning"}
# A framework, the word that the name of a file must hold to import it, and where it may be imported anyway.
FRAMEWORKS = {
    "torch": "torch",
    "tensorflow": "tensorflow",
    "jax": "jax",
    "jaxlib": "jax",
    "keras": "keras",
    "keras_hub": "keras",
    "transformers": "transformers",
    "peft": "transformers",
    "accelerate": "transformers",
    "datasets": "transformers",
    "timm": "timm",
    "diffusers": "diffusers",
    "sentence_transformers": "sentence_transformers",
}
COMPANIONS = {"transformers": {"torch"}, "timm": {"torch"}, "diffusers": {"torch"}}  # a library and what it stands on
FINE_TUNING = ("regard.finetuning",)
PLOTTING = ("regard.inspection.plots", "regard.inspection.report")

LOADERS = {"from_pretrained", "from_config", "pipeline"}  # what may run code that comes with a model
# Loaders of other classes, that take no `trust_remote_code`: a module and the call -> why it runs no such code.
TRUSTED = {
    "regard.finetuning.training.adapters: PeftModel.from_pretrained": "PEFT reads weights and a JSON file",
    "regard.finetuning.tasks.pictures.denoiser: DDIMScheduler.from_pretrained": "only pipelines run code",
    "regard.finetuning.tasks.pictures.denoiser: AutoencoderKL.from_pretrained": "only pipelines run code",
    "regard.finetuning.tasks.pictures.denoiser: DiTTransformer2DModel.from_pretrained": "only pipelines run code",
    "regard.finetuning.tasks.pictures.image_generation: Denoiser.from_pretrained": "our own, of the three above",
    "regard.finetuning.tasks.speech.recognizers: torch.nn.Embedding.from_pretrained": "PyTorch's, of a tensor",
    "regard.finetuning.frameworks.keras.models: type(model.backbone).from_config": "of a model that is loaded already",
}


def module_name(path, source):
    parts = [source.name, *path.relative_to(source).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports_of(path, name):
    """Every module that a file imports, anywhere in it: (line, module), from-imports with what is imported."""
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package.rsplit(".", node.level - 1)[0] if node.level > 1 else package
            origin = f"{base}.{node.module or ''}".strip(".") if node.level else node.module
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield from ((node.lineno, str(x.value)) for x in node.args[:1] if isinstance(x, ast.Constant))


def layer_of(name):
    """The number of a module's layer, the highest number at the ground; None where the plan does not know it."""
    known = {member: layer for layer, members in enumerate(LAYERS) for member in members}
    if name == "regard":
        return known[name]
    name = DOORS.get(name, name)
    while name not in known:
        name = name.rpartition(".")[0]
    return None if name == "regard" else known[name]


def within(name, packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def files(source):
    return [(path, module_name(path, source)) for path in sorted(source.rglob("*.py"))]


def upward_imports(source):
    """Imports that go up."""
    known = {name for _, name in files(source)}
    for path, name in files(source):
        own = layer_of(name)
        if own is None:
            yield f"{name}: in no layer of the plan"
            continue
        for line, imported in imports_of(path, name):
            if not within(imported, ("regard",)):
                continue
            target = imported if imported in known else imported.rpartition(".")[0]
            target = target if target in known else imported
            if (
                target == "regard"
                and own > 0
                and within(name, (*FINE_TUNING, "regard.cli", "regard.commands", "regard.inspection"))
            ):
                continue  # the public door, used from above it: `import regard`
            other = layer_of(target)
            if other is None or other < own:
                yield f"{name}:{line} imports {imported}"


def circle(source):
    """Modules that import each other in a circle, function-level imports counted; else none."""
    known = {name for _, name in files(source)}
    graph = {}
    for path, name in files(source):
        imported = (found for _, found in imports_of(path, name))
        graph[name] = {found if found in known else found.rpartition(".")[0] for found in imported} & known - {name}
        graph[name] -= {source.name}  # the public door, whose imports wait until a name is asked for
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def misplaced_frameworks(source):
    """Frameworks imported where their name does not stand, and Matplotlib outside the plots."""
    for path, name in files(source):
        words = name.replace("_", ".").split(".")
        for line, imported in imports_of(path, name):
            top = imported.split(".")[0]
            if top in FRAMEWORKS and not within(name, FINE_TUNING):
                allowed = FRAMEWORKS[top] in words or any(top in COMPANIONS.get(word, ()) for word in words)
                if not allowed:
                    yield f"{name}:{line} imports {imported}"
            if top == "matplotlib" and not within(name, PLOTTING):
                yield f"{name}:{line} imports {imported}"


def trusting_calls(source):
    """Loaders of models that may run code which comes with a model: module: what is called, or named for later."""
    for path, name in files(source):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
        safe = {id(call.func) for call in calls if refuses_code(call)}
        named = [node for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Constant)]
        for node in (*named, *(call.func for call in calls if isinstance(call.func, ast.Name))):
            if ast.unparse(node).rpartition(".")[2].strip("'") in LOADERS and id(node) not in safe:
                yield f"{name}: {ast.unparse(node)}"


def refuses_code(call):
    """Whether a call says `trust_remote_code=False`."""
    return any(
        keyword.arg == "trust_remote_code" and isinstance(keyword.value, ast.Constant) and keyword.value.value is False
        for keyword in call.keywords
    )


def loaded_by(statement):
    """The frameworks in `sys.modules` of a new process after a statement."""
    watched = sorted({*FRAMEWORKS, "matplotlib", "numba", "pandas", "scipy", "sklearn"})
    program = f"{statement}\nimport sys\nprint([name for name in {watched} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return ast.literal_eval(done.stdout.splitlines()[-1])


def test_imports_go_down_only():
    assert list(upward_imports(SOURCE)) == []


def test_no_modules_import_each_other():
    assert circle(SOURCE) == []


def test_frameworks_are_imported_where_their_name_stands():
    assert list(misplaced_frameworks(SOURCE)) == []


def test_no_code_that_comes_with_a_model_is_run():
    assert {*trusting_calls(SOURCE)} == {*TRUSTED}


def test_the_package_imports_no_framework():
    assert loaded_by("import regard") == []


def test_the_package_used_with_numpy_imports_no_framework():
    use = "import numpy as np, regard\nx = np.ones((4, 2))\nregard.attention(x, x, x).weights.entropy()"
    assert loaded_by(use) == []


def test_every_module_of_the_plan_has_a_layer():
    assert [name for _, name in files(SOURCE) if layer_of(name) is None] == []


# --- each of these can fail ------------------------------------------------------------------------------------------


def package(tmp_path, **modules):
    """A package named regard with some modules, `a__b` or `a/b` for `a/b.py`."""
    source = tmp_path / "regard"
    for name, text in {"__init__": "", **modules}.items():
        path = source / f"{name if '/' in name or name == '__init__' else name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return source


FINE_TUNED = {"finetuning/tasks/__init__": "", "finetuning/tasks/targets/classes": "", "finetuning/run": ""}


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("errors", "from regard import masks"),
        ("errors", "import regard.weights"),
        ("_backends/numpy", "from regard._blockwise import run"),
        ("_backends/numpy", "from .._blockwise import run"),
        ("attention", "from regard.nn import keras"),
        ("attention", "def late():\n    import regard.models.watch"),
        ("attention", "import importlib\nimportlib.import_module('regard.cli')"),
        ("models/watch", "from ..inspection import measure"),
        ("inspection/plots", "from regard.finetuning.runs.run import Run"),
        ("finetuning/run", "from regard.commands import shared"),
        ("commands/shared", "from regard.cli import app"),
        ("finetuning/data/splits", "from regard.finetuning.tasks.targets import classes"),
        ("finetuning/data/writing", "def late():\n    from regard.finetuning.runs import locks"),
        ("finetuning/training/repeats", "from regard.finetuning.check import prepare"),
        ("finetuning/tasks/__init__", "from regard.finetuning.tasks.targets import classes"),
        ("finetuning/prepared", "from regard.finetuning.training.speed import Speed"),
        ("unplanned", ""),
    ],
)
def test_an_import_that_goes_up_is_found(tmp_path, module, text):
    known = {"masks": "", "_blockwise": "", "weights": "", "inspection/measure": "", **FINE_TUNED}
    source = package(tmp_path, **known | {module: text})
    assert len(list(upward_imports(source))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("attention", "from regard.errors import ShapeError"),
        ("attention", "import numpy"),
        ("weights", "from regard import masks"),
        ("weights", "from . import masks"),
        ("_backends/numpy", "from ..errors import ShapeError"),
        ("cli", "from regard.finetuning import run"),
        ("cli", "from regard.commands import shared"),
        ("commands/shared", "from regard.finetuning import run"),
        ("finetuning/training/train", "from regard.finetuning.tasks import get_task"),
        ("finetuning/tasks/targets/classes", "from regard.finetuning.training import precision"),
        ("finetuning/conduct", "from regard.finetuning.training import precision"),
    ],
)
def test_an_import_that_goes_down_passes(tmp_path, module, text):
    assert (
        list(
            upward_imports(
                package(tmp_path, **{"masks": "", "errors": "", **FINE_TUNED, "commands/shared": "", module: text})
            )
        )
        == []
    )


@pytest.mark.parametrize("late", ["from regard import weights", "def late():\n    from regard.weights import tile"])
def test_a_circle_is_found(tmp_path, late):
    source = package(tmp_path, weights="from regard import _tiles", _tiles="import regard.masks", masks=late)
    assert {*circle(source)} == {"regard.weights", "regard._tiles", "regard.masks"}
    assert circle(package(tmp_path / "other", weights="import regard.masks", masks="import regard")) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("attention", "import torch"),
        ("_backends/jax", "import torch"),
        ("_backends/numpy", "def late():\n    import tensorflow as tf"),
        ("nn/torch", "from keras import layers"),
        ("inspection/measure", "import matplotlib.pyplot as plt"),
        ("_check", "import importlib\ntorch = importlib.import_module('torch')"),
    ],
)
def test_a_framework_out_of_place_is_found(tmp_path, module, text):
    assert len(list(misplaced_frameworks(package(tmp_path, **{module: text})))) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("_backends/torch", "import torch.nn.functional as F"),
        ("models/transformers", "import torch, transformers"),
        ("finetuning/train", "import torch"),
        ("inspection/plots", "import matplotlib.pyplot as plt"),
        ("inspection/report/charts", "import matplotlib"),
    ],
)
def test_a_framework_in_its_place_passes(tmp_path, module, text):
    assert list(misplaced_frameworks(package(tmp_path, **{module: text}))) == []


def test_a_framework_that_is_loaded_is_found():
    assert loaded_by("import regard, torch") == ["torch"]


@pytest.mark.parametrize(
    "text",
    [
        "AutoModel.from_pretrained(name)",
        "AutoModel.from_pretrained(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, trust_remote_code=trusted)",
        "AutoModel.from_pretrained(name, **{'trust_remote_code': False})",
        "def late():\n    return kind.from_config(config)",
        "load = AutoTokenizer.from_pretrained",
        "getattr(AutoModel, 'from_pretrained')(name)",
        "from transformers import pipeline\npipeline('fill-mask', model=name)",
        "transformers.pipeline('fill-mask')",
    ],
)
def test_a_loader_that_may_run_code_is_found(tmp_path, text):
    assert len(list(trusting_calls(package(tmp_path, **{"finetuning/run": text})))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "AutoModel.from_pretrained(name, trust_remote_code=False)",
        "AutoConfig.for_model('bert')",
        "TEXT = 'AutoModel.from_pretrained(name)'",
    ],
)
def test_a_loader_that_runs_no_code_passes(tmp_path, text):
    assert list(trusting_calls(package(tmp_path, **{"finetuning/run": text}))) == []
