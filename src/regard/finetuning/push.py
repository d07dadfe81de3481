"""Put a run's model and its card on a model hub."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regard.errors import ConfigError, DataError, RegardError
from regard.finetuning.runs.run import Run

CARD = "README.md"
OURS = re.compile(r"```python\n(from pathlib import Path\n\n)?import regard\n")
"""How the program begins that needs the run."""


@dataclass(frozen=True)
class Pushed:
    """What was uploaded, or would be.

    Attributes:
        name: on the hub, with its owner where the hub has told.
        url: of the model's page; empty if nothing was uploaded.
        files: name -> bytes.
        private: whether others cannot see it.
    """

    name: str
    url: str
    files: dict[str, int]
    private: bool


def push(
    run: Run | str | Path, name: str, *, private: bool = False, token: str | None = None, dry_run: bool = False
) -> Pushed:
    """Upload the model of a run, with its processor and its card, to a hub (`HF_ENDPOINT`, huggingface.co if not set).

    In the card, the folder of the model is replaced by its name on the hub, so that its programs run anywhere.

    Args:
        run: a run, or its directory.
        name: on the hub, `OWNER/NAME` or `NAME` alone; made if it is not there.
        private: make it visible to its owner alone.
        token: of the hub; of the environment (`HF_TOKEN`) or of `hf auth login` if left out.
        dry_run: upload nothing and say what would be.

    Raises:
        ConfigError: the name is none that a hub takes, there is no token, or this process is offline.
        DataError: there is no such run, or it has no card.
        RegardError: the hub cannot be reached, or refuses.
    """
    run = Run.load(run)
    folder = run.path / "model"
    if not (folder / CARD).is_file():
        raise DataError(
            f"{folder}: need a model with its card; got none of {CARD}; go on with 'regard finetune --resume'."
        )
    _require_name(name)
    files = {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}
    if dry_run:
        return Pushed(name, "", {file: path.stat().st_size for file, path in files.items()}, private)
    return _upload(files, name, _require_token(token), private, folder)


def _require_name(name: str) -> None:
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(name if isinstance(name, str) else "")  # which lets None pass
    except HFValidationError:
        raise ConfigError(
            f"push: need a name as hubs take it, OWNER/NAME of letters, digits, '-', '_' and '.'; got '{name}'; choose "
            "another."
        ) from None


def _require_token(token: str | None) -> str:
    from huggingface_hub import get_token, is_offline_mode

    if is_offline_mode():
        raise ConfigError("push: need the network; got HF_HUB_OFFLINE set; unset it, or see what goes with --dry-run.")
    found = token or get_token()
    if not found:
        raise ConfigError("push: need a token of the hub; got none; set HF_TOKEN, or run 'hf auth login'.")
    return found


def _upload(files: dict[str, Path], name: str, token: str, private: bool, folder: Path) -> Pushed:
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    unreached: Any = (OSError, *HfHubHTTPError.__bases__)  # those of whichever HTTP library it stands on
    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
    try:
        made = api.create_repo(name, private=private, exist_ok=True)
        contents: dict[str, Any] = {file: path for file, path in files.items() if file != CARD}
        contents[CARD] = _renamed((folder / CARD).read_text(encoding="utf-8"), folder, made.repo_id).encode()
        added = [CommitOperationAdd(path_in_repo=file, path_or_fileobj=content) for file, content in contents.items()]
        api.create_commit(made.repo_id, added, commit_message="A model and its card, by Regard")
    except HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "no status"
        raise RegardError(
            f"push: need a hub that takes '{name}'; got its answer {status}; look at the name, and at what the token "
            "may do."
        ) from None
    except unreached as error:
        raise RegardError(
            f"push: need to reach {api.endpoint}; got {type(error).__name__}; look at the network and at HF_ENDPOINT."
        ) from None
    sizes = {file: len(c) if isinstance(c, bytes) else c.stat().st_size for file, c in contents.items()}
    return Pushed(made.repo_id, str(made), dict(sorted(sizes.items())), private)


def _renamed(card: str, folder: Path, name: str) -> str:
    """Name the model as the hub does, where the card's programs name its folder, and leave out what needs the run."""
    ours = next((found.start() for found in OURS.finditer(card)), -1)
    if ours >= 0:
        end = card.index("```", ours + 3) + 3
        card = card[:ours].rstrip() + card[end:]
    return card.replace(f'"{folder.as_posix()}"', f'"{name}"')
