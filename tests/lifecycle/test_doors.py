"""Deploying to a Unix socket, or for other machines too: what the verbs do through it, what does not go together."""

import json
from pathlib import Path
from typing import Any

import pytest

import sft_magics as sft
from sft_magics.__main__ import main
from sft_magics.core import errors
from sft_magics.core.workspace import Workspace
from sft_magics.serving import addresses


def test_a_version_lives_behind_a_socket(trained: Workspace) -> None:
    endpoint = sft.deploy("films:1", name="quiet", socket=True, workspace=trained)
    assert endpoint.port == 0
    assert "stored examples as when it was trained" in (Path(endpoint.folder) / "events.jsonl").read_text()
    assert sft.predict("quiet", "a moving, funny film", endpoint=True, workspace=trained).rows[0].id
    assert "films:1 answers alone" in str(sft.traffic("quiet", workspace=trained))
    assert sft.monitor("quiet", workspace=trained).requests == 1
    sft.finetune("films", epochs=0.02, workspace=trained)
    assert sft.deploy("films:2", name="quiet", workspace=trained).version == "films:2", "it is switched through it"
    (row,) = sft.endpoints(workspace=trained).rows
    assert row.url.startswith("http+unix://")
    sft.stop("quiet", workspace=trained)
    assert not Path(endpoint.socket).exists()


def test_it_is_told_what_is_laid_open(trained: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    line = ["deploy", "films:1", "--name", "open", "--public", "--keep", "--workspace", str(trained.root)]
    assert main(line) == 0
    assert "without TLS" in capsys.readouterr().out
    assert main(["endpoints", "--json", "--workspace", str(trained.root)]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert row["public"]
    assert {"name", "url", "token_file", "version", "state"} <= set(row)
    if found := addresses.addresses():
        assert row["url"] == f"http://{found[0]}:{row['port']}"
    assert sft.predict("open", "a film", endpoint=True, workspace=trained).rows[0].id
    assert sft.deploy("films:1", name="open", workspace=trained).public, "switching it does not shut it"
    sft.stop("open", workspace=trained)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"socket": True, "public": True}, "goes with neither --port nor --public"),
        ({"socket": True, "port": 8123}, "goes with neither --port nor --public"),
        ({"hosts": "models.example.org"}, "--hosts names a public endpoint"),
        ({"public": True, "hosts": "http://models.example.org"}, "is no name of a host"),
        ({"public": True, "hosts": "a b"}, "is no name of a host"),
        ({"public": True, "hosts": "a,,b"}, "is no name of a host"),
        ({"public": True, "hosts": "*"}, "is no name of a host"),
    ],
)
def test_what_does_not_go_together_is_refused(trained: Workspace, options: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.UsageProblem, match=says):
        sft.deploy("films:1", workspace=trained, **options)
    assert sft.endpoints(workspace=trained).rows == ()


def test_a_running_endpoint_is_not_opened_in_passing(trained: Workspace) -> None:
    sft.deploy("films:1", name="shut", workspace=trained)
    for options in ({"public": True}, {"socket": True}):
        with pytest.raises(errors.Refused, match="a running endpoint does not move"):
            sft.deploy("films:1", name="shut", workspace=trained, **options)  # type: ignore[arg-type]
    assert not sft.endpoints(workspace=trained).rows[0].public
