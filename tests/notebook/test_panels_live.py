"""Live panels in a real kernel, seen as a front end sees them: by the messages the kernel sends."""

import os
import re
import subprocess
import sys
import textwrap
import time
from pathlib import Path

from sft_magics.core import events as ev
from tests.notebook import panel_samples as samples
from tests.notebook.fronts import ROOT, SETUP, WIDGET, Front, Writer, model_of, settled, shown, start_panel


def test_a_record_is_shown_as_html_with_its_text_twin(front: Front) -> None:
    (result,) = shown(front.run("samples.everything()[0]"), "execute_result")
    assert result["data"]["text/plain"].startswith("version reviews:2: accuracy 0.887")
    assert '<div class="sft"' in result["data"]["text/html"]
    (shot,) = shown(front.run("display.show(records.Table('runs', (), '%sft_finetune MODEL'))"))
    assert shot["data"]["text/plain"] == "no runs yet\nNext: %sft_finetune MODEL"
    assert "none yet" in shot["data"]["text/html"]


def test_a_panel_that_fails_leaves_its_text(front: Front) -> None:
    (result,) = shown(front.run("records.Check('name', None)"), "execute_result")
    assert "name: None" in result["data"]["text/plain"]
    (result,) = shown(front.run("records.Table('versions', (3,))"), "execute_result")
    assert result["data"] == {"text/plain": "3"}


def test_a_blocking_cell_redraws_at_most_four_times_a_second_and_leaves_plain_html(front: Front) -> None:
    mine = front.run("""
        view = LossView("run-b10c", model="reviews")
        began = time.monotonic()
        for event in samples.finished():
            view.apply(event)
            watcher.show(view)
            time.sleep(0.005)
        took = time.monotonic() - began
    """)
    first = shown(mine)[0]
    model_of(shown(mine))
    redraws = [m for m in mine if m["msg_type"] == "comm_msg" and "value" in m["content"]["data"].get("state", {})]
    assert 2 <= len(redraws) <= 4 * float(front.value("took")) + 2
    assert "Interrupt the kernel to stop" in redraws[0]["content"]["data"]["state"]["value"]
    *_, last, gone = shown(mine, "update_display_data")
    assert last["transient"] == first["transient"]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert set(gone["data"]) == {"text/html", "text/plain"}, "no widget is left behind"
    assert "sft-twin" not in last["data"]["text/html"], "the last picture hides nothing and is never hidden"
    assert "Made <strong>reviews:2</strong>" in last["data"]["text/html"]
    assert "made reviews:2" in last["data"]["text/plain"]
    assert "Interrupt the kernel" not in last["data"]["text/html"]


def test_two_jobs_in_one_cell_have_a_display_each_and_a_later_cell_its_own(front: Front) -> None:
    mine = front.run("""
        views = [JobView(f"job-{k}", title=f"job {k}", state="running", started_at=0.0, heard_at=0.0) for k in range(2)]
        for view in (*views, *views):
            watcher.show(view)
    """)
    assert len({d["transient"]["display_id"] for d in shown(mine)}) == 2
    later = front.run("watcher.show(views[0]); views[0].state = 'done'; watcher.show(views[0])")
    (first,), (last,) = shown(later), shown(later, "update_display_data")
    assert first["transient"] == last["transient"]
    assert first["transient"]["display_id"] not in {d["transient"]["display_id"] for d in shown(mine)}
    assert last["data"]["text/plain"] == "job 0: done"


def test_a_run_is_one_line_in_the_cell_that_shows_its_panel_and_a_card_in_every_other(front: Front) -> None:
    front.run("display.install(get_ipython(), watcher.has_shown)")
    told = """
        import dataclasses
        run = next(t for t in samples.everything() if isinstance(t, records.Run))
        view = LossView(run.id, model="reviews")
        for event in samples.finished():
            view.apply(event)
        watcher.show(view)
        dataclasses.replace(run, state="done", why="", next_step="")
    """
    (line,) = shown(front.run(told), "execute_result")
    assert "progress" not in line["data"]["text/html"].partition("</style>")[2]
    assert "made </span><strong>reviews:2" in line["data"]["text/html"]
    assert "88/268" in line["data"]["text/plain"], "the text says it all, here too"
    (card,) = shown(front.run("run"), "execute_result")
    assert "progress" in card["data"]["text/html"].partition("</style>")[2]


def test_a_background_panel_leaves_the_kernel_free_moves_and_settles(front: Front, writer: Writer) -> None:
    writer.say(samples.events(upto=20))
    displays = shown(start_panel(front, writer))
    first, model = displays[0], model_of(displays)
    assert "step 20 of 240" in first["data"]["text/plain"]
    assert f"%sft_watch {writer.job.id} shows it again" in first["data"]["text/html"]
    assert front.value("1 + 1") == "2"
    assert front.value("panel.thread.is_alive(), panel.thread.daemon") == "(True, True)"
    writer.say(samples.events(upto=130)[23:])
    moved = front.until(lambda m: m["msg_type"] == "comm_msg" and "<strong>130</strong>" in str(m["content"]["data"]))
    assert "<strong>130</strong> of 240" in moved["content"]["data"]["state"]["value"]
    writer.say(samples.finished()[len(samples.events(upto=130)) :])
    writer.die()
    last = front.until(settled)["content"]
    assert last["transient"] == first["transient"]
    assert set(last["data"]) == {"text/html", "text/plain"}
    assert "made reviews:2" in last["data"]["text/plain"]
    box = f"__import__('ipywidgets').Widget.widgets[{model!r}]"  # what a reloaded page asks for
    assert front.value(f"len({box}.children)") == "1"
    assert front.value(f"'Made <strong>reviews:2' in {box}.children[0].value") == "True"
    front.run("panel.thread.join(5); assert not panel.thread.is_alive()")


def test_the_thread_rests_most_of_the_time(front: Front, writer: Writer) -> None:
    said = samples.events(steps=6000)
    writer.say(said[:4000])
    start_panel(front, writer)
    used = "time.clock_gettime(time.pthread_getcpuclockid(panel.thread.ident))"
    began, cpu = time.monotonic(), float(front.value(used))
    for k in range(4000, 4060):
        writer.say(said[k : k + 1])
        time.sleep(0.1)
    share = (float(front.value(used)) - cpu) / (time.monotonic() - began)
    assert share < 0.02
    writer.say([ev.Ended("done")])
    front.until(settled)


def test_the_stop_button_asks_the_run_to_stop(front: Front, writer: Writer) -> None:
    writer.say(samples.events(upto=20))
    mine = start_panel(front, writer)
    opened = {m["content"]["comm_id"]: m["content"]["data"]["state"] for m in mine if m["msg_type"] == "comm_open"}
    ((button, state),) = [(i, s) for i, s in opened.items() if s.get("_model_name") == "ButtonModel"]
    assert (state["description"], state["icon"]) == ("Stop", "")
    click = {"comm_id": button, "data": {"method": "custom", "content": {"event": "click"}}}
    front.client.shell_channel.send(front.client.session.msg("comm_msg", click))
    front.until(lambda m: m["msg_type"] == "comm_msg" and "stopping after this step" in str(m["content"]))
    assert writer.job.told() == "stop"
    disabled = [m for m in front.heard if m["msg_type"] == "comm_msg" and m["content"]["comm_id"] == button]
    assert disabled[-1]["content"]["data"]["state"] == {"disabled": True}
    writer.say([ev.Ended("interrupted", "The run was stopped.", "%sft_finetune --resume run-x")])
    assert "Next: %sft_finetune --resume run-x" in front.until(settled)["content"]["data"]["text/plain"]


def test_the_pause_button_lets_the_run_rest_and_the_resume_button_takes_it_up_again(
    front: Front, writer: Writer
) -> None:
    writer.say(samples.events(upto=20))
    acts = ', pause=lambda: job.tell({"do": "pause"}), resume=lambda: job.tell({"do": "resumed"})'
    model = model_of(shown(start_panel(front, writer, acts)))
    row = f"__import__('ipywidgets').Widget.widgets[{model!r}].children[1]"
    words = f"[getattr(w, 'description', '') for w in {row}.children]"
    assert front.value(words) == "['Stop', 'Pause', '']"
    front.run(f"{row}.children[1].click()")
    assert writer.job.told() == "pause"
    assert "pausing after this step" in front.value(f"{row}.children[-1].value")
    writer.say([ev.Ended("paused", "The run was paused.", "%sft_resume run-x")])
    writer.die()
    rests = front.until(lambda m: m["msg_type"] == "update_display_data" and "paused" in str(m["content"]["data"]))
    said = rests["content"]["data"]["text/plain"]
    assert "Next: %sft_resume run-x" in said
    assert "As of " in said, "it may go on one day"
    assert front.value(words) == "['Resume', '']"
    front.run(f"{row}.children[0].click()")
    assert writer.job.told() == "resumed"
    writer.say([ev.TakenUp()])
    deadline = time.monotonic() + 20
    while front.value(words) != "['Stop', 'Pause', '']":
        assert time.monotonic() < deadline
    writer.live()
    writer.say([ev.Started("training", 7), ev.Ended("done")])
    assert "done" in front.until(settled)["content"]["data"]["text/plain"]
    writer.die()


def test_a_run_whose_process_is_gone_is_shown_as_lost(front: Front, writer: Writer) -> None:
    writer.say(samples.events(upto=20))
    start_panel(front, writer)
    writer.die()
    last = front.until(settled)["content"]["data"]
    assert "lost" in last["text/plain"]
    assert f"Next: %sft_finetune --resume {writer.job.id}" in last["text/plain"]


def test_a_run_that_is_over_is_shown_without_a_widget(front: Front, writer: Writer) -> None:
    writer.say(samples.finished())
    writer.die()
    (only,) = shown(start_panel(front, writer))
    assert set(only["data"]) == {"text/html", "text/plain"}
    assert front.value("panel.thread is None") == "True"


def test_without_widgets_the_display_itself_is_updated(bare_front: Front, writer: Writer) -> None:
    writer.say(samples.events(upto=20))
    (first,) = shown(start_panel(bare_front, writer))
    assert set(first["data"]) == {"text/html", "text/plain"}
    assert f"%sft_stop {writer.job.id} stops it" in first["data"]["text/html"]
    writer.say(samples.events(upto=40)[23:])
    moved = bare_front.until(lambda m: m["msg_type"] == "update_display_data")["content"]["data"]["text/plain"]
    assert "step 40 of 240" in moved
    assert "As of " in moved
    writer.say([ev.Ended("done")])
    last = bare_front.until(lambda m: settled(m) and "done" in m["content"]["data"]["text/plain"])
    assert last["content"]["transient"] == first["transient"]
    assert bare_front.value("watcher.face").startswith("'Jupyter kernel, live panels")


def test_the_try_box_answers_and_says_what_is_wrong(front: Front) -> None:
    front.run("""
        from sft_magics.core.errors import EndpointProblem
        def ask(text):
            if text == "down":
                raise EndpointProblem("It is <b>down</b>.", "%sft_endpoints")
            if text == "odd":
                raise KeyError("<i>odd</i>")
            answer = records.Prediction(text, "positive", 0.9, {"positive": 0.9, "negative": 0.1})
            return panels.html(records.Predictions("reviews:2", (answer,)))
        box = trying.try_box(ask)
        (asked, button), answer = box.children[0].children, box.children[1]
        def tried(text):
            asked.value = text
            button.click()
            return answer.value
    """)
    assert front.value("'a &lt;moving&gt; film' in tried('a <moving> film')") == "True"
    down = "'<div>It is &lt;b&gt;down&lt;/b&gt;.</div><div>Next: %sft_endpoints</div>'"
    assert front.value("tried('down')") == down
    assert "&lt;i&gt;odd" in front.value("tried('odd')")
    assert front.value("button.disabled") == "False"
    front.run("asked.value = 'again'; asked._handle_custom_msg({'event': 'submit'}, [])")
    assert front.value("'again' in answer.value") == "True"


def test_a_box_to_try_has_a_twin_that_says_what_to_type(front: Front) -> None:
    mine = front.run("""
        made = next(e for e in samples.everything() if isinstance(e, records.Endpoint))
        trying.offer(get_ipython(), made, None)
    """)
    twin, widget = shown(mine)
    assert set(twin["data"]) == {"text/html", "text/plain"}
    assert '%sft_predict reviews "a text" --endpoint' in twin["data"]["text/plain"]
    name = re.search(r"sft-twin-(\w+)", twin["data"]["text/html"])
    assert name is not None
    box = f"__import__('ipywidgets').Widget.widgets[{widget['data'][WIDGET]['model_id']!r}]"
    assert front.value(f"{box}._dom_classes") == f"('sft-live-{name[1]}',)"


def test_a_terminal_gets_a_line_at_the_end_and_no_widget(tmp_path: Path) -> None:
    script = f"""
        from IPython.core.interactiveshell import InteractiveShell
        shell = InteractiveShell.instance()
        {SETUP.strip().replace(chr(10), chr(10) + " " * 8).replace("get_ipython()", "shell")}
        view = LossView("run-7f3a", model="reviews")
        for event in samples.finished():
            view.apply(event)
            watcher.show(view)
        print(watcher.face)
        import sys
        assert "ipywidgets" not in sys.modules
    """
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first, *epochs, second, face = done.stdout.strip().splitlines()
    assert first.startswith("run-7f3a reviews done: epoch 3.00 of 3, step 240 of 240, loss ")
    assert [line.split()[0] for line in epochs] == ["epoch", "1", "2", "3"]
    assert second == "  info: classifier.weight and classifier.bias start fresh"
    assert face == "IPython in a terminal: panels are text"
