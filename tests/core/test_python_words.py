"""Lines of magics as calls of Python."""

import pytest

from sft_magics.core.python_words import python_words


@pytest.mark.parametrize(
    ("line", "call"),
    [
        ("%sft_data NAME shows it.", 'sft.data("NAME") shows it.'),
        ("%sft_finetune reviews --lr 1e-5", 'sft.finetune("reviews", lr=1e-5)'),
        ("type %sft_doctor, and report it.", "type sft.doctor(), and report it."),
        ("(%sft shows it)", "(sft.board() shows it)"),
        ("%sft_errors reviews@live --top 5.", 'sft.errors_("reviews@live", top=5).'),
        ("%sft_registry --restore b.zip undoes it.", 'sft.registry_(restore="b.zip") undoes it.'),
        ("%sft_finetune m --from m@live", 'sft.finetune("m", from_="m@live")'),
        ("%sft_gc --yes removes it, or %sft_runs.", "sft.gc(yes=True) removes it, or sft.runs()."),
        ("type %sft_data? to see all", "type help(sft.data) to see all"),
        ('%sft_predict m@live "a b" --no-log', 'sft.predict("m@live", "a b", log=False)'),
        ("%sft_gc --runs interrupted --older 7", 'sft.gc(runs="interrupted", older=7)'),
        ("%sft_stop run-3 first.", 'sft.stop("run-3") first.'),
        ("%sft_alias m:3 live", 'sft.alias("m:3", "live")'),
        ("%sft_tag m:3 owner=ann", 'sft.tag("m:3", "owner=ann")'),
        ("%sft_keep run-3; %sft_runs lists them", 'sft.keep("run-3"); sft.runs() lists them'),
    ],
)
def test_a_line_is_a_call_up_to_its_prose(line: str, call: str) -> None:
    assert python_words(line) == call
