"""The page as gradio components: where they stand, which of them starts which action, and where its answer goes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import fields
from typing import Any

import gradio as gr

from gradtoken.draw.grid import INTERPOLATIONS
from gradtoken.errors import GradTokenError
from gradtoken.methods import METHODS
from gradtoken.progress import showing
from gradtoken.web import actions, panels
from gradtoken.web.actions import Answer
from gradtoken.web.asked import COLOURS, Asked
from gradtoken.web.visits import Desk

Parts = dict[str, Any]
TITLE = "What did the Transformer see?"
ANSWERS = tuple(field.name for field in fields(Answer))
CONTROLS = tuple(field.name for field in fields(Asked))
AT_ONCE = 4  # actions at the same time; each model still serves one after the other
PROGRESS = gr.Progress()
SAVE = "answer => { if (answer) window.gradtoken.save(answer); return null; }"
PICKED = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  for (const kind of ['sample', 'class', 'beside', 'file'])
    if (button && kind in button.dataset) trigger('select', {kind, value: button.dataset[kind]});
});
element.addEventListener('gt-sent', event => trigger('select', {kind: 'upload', value: event.detail}));
"""  # what gradio runs for an element; the rest of the script is page.js


def page(desk: Desk) -> Any:
    """The whole page, not yet served."""
    with gr.Blocks(title=f"gradtoken: {TITLE}", analytics_enabled=False, fill_width=True) as blocks:
        key = gr.State("")
        html(f'<h1 class="gt-title">{TITLE}</h1><div id="gt-said" role="status"></div>')
        with gr.Row(elem_id="gt-page"):
            parts: Parts = {"key": key}
            for name, place in PLACES.items():
                with gr.Column(elem_id=name, elem_classes="gt-block", min_width=280):
                    parts |= place(desk)
        connect(desk, parts, blocks)
    return blocks


def html(value: str = "", **how: Any) -> Any:
    """A part of the page that is ours alone, without gradio's style for texts."""
    return gr.HTML(value, apply_default_css=False, **how)


def place_input(desk: Desk) -> Parts:
    """Picture and model."""
    settings = desk.settings
    drop = html(panels.drop(settings.bytes, actions.thumbnails()), js_on_load=PICKED)
    model = gr.Dropdown(
        list(settings.models),
        value=settings.models[0],
        label="Model",
        info="or type a hub name, timm:NAME, or the path of a folder" if settings.private else None,
        allow_custom_value=settings.private,
    )
    return {"drop": drop, "picture": html(), "model": model}


def place_result(_: Desk) -> Parts:
    """Messages, maps, and what can be taken away."""
    parts = {"message": html(), "maps": html(elem_id="gt-maps")}
    parts |= {"downloads": html(panels.downloads(), js_on_load=PICKED), "file": gr.JSON(visible=False)}
    with gr.Accordion("The same in Python", open=False):
        parts["code"] = html()
    return parts


def place_options(_: Desk) -> Parts:
    """Classes, methods, and how the maps are drawn."""
    usual = Asked()
    words = gr.Textbox(label="Class", placeholder="search all classes", max_lines=1, elem_id="gt-search")
    classes = html(js_on_load=PICKED, elem_id="gt-classes")
    methods = gr.Dropdown(list(METHODS), value=list(usual.methods), multiselect=True, label="Methods")
    with gr.Accordion("Display", open=False):
        controls = {
            "opacity": gr.Slider(0, 1, usual.opacity, step=0.05, label="Opacity of the heat"),
            "threshold": gr.Slider(0, 1, usual.threshold, step=0.05, label="Keep only from this share of the maximum"),
            "colours": gr.Dropdown(list(COLOURS), value=usual.colours, label="Colours", filterable=False),
            "interpolation": gr.Radio(list(INTERPOLATIONS), value=usual.interpolation, label="Between patches"),
            "lines": gr.Checkbox(usual.lines, label="Borders of patches"),
            "shared": gr.Checkbox(usual.shared, label="One scale for both classes"),
        }
    return {"words": words, "classes": classes, "methods": methods} | controls


def place_more(_: Desk) -> Parts:
    """What is computed on demand."""
    with gr.Accordion("Inside GradToken: heads, depths, schemes", open=False):
        parts = {"vary": gr.Button("Show them"), "variants": html()}
    with gr.Accordion("Is the map faithful? Erase and watch", open=False):
        parts |= {"erase": gr.Button("Erase patch by patch"), "erasing": html()}
    return parts


PLACES: dict[str, Callable[[Desk], Parts]] = {
    "gt-input": place_input,
    "gt-result": place_result,
    "gt-options": place_options,
    "gt-more": place_more,
}


# Events ---------------------------------------------------------------------------------------------------------------


def connect(desk: Desk, parts: Parts, blocks: Any) -> None:
    """Which component starts what."""
    key, outputs = parts["key"], [parts["key"], *(parts[name] for name in ANSWERS)]
    controls = [parts[name] for name in CONTROLS]
    view = [key, parts["model"], *controls]
    usual: dict[str, Any] = {"outputs": outputs, "concurrency_limit": AT_ONCE, "api_visibility": "private"}
    heavy = usual | {"concurrency_id": "models", "show_progress_on": parts["maps"]}

    def on_demand(part: str) -> dict[str, Any]:
        return usual | {"concurrency_id": "models", "show_progress_on": parts[part]}

    picked = [parts[name].select for name in ("drop", "classes")]
    blocks.load(started(desk), view, **heavy)
    gr.on(picked, chosen(desk), view, trigger_mode="multiple", **heavy)
    parts["model"].input(plain(desk, remodelled), view, **heavy)
    changed = [parts[n].release if isinstance(parts[n], gr.Slider) else parts[n].input for n in CONTROLS]
    gr.on(changed, plain(desk, redrawn), [key, *controls], trigger_mode="always_last", **heavy)
    quick = usual | {"concurrency_id": "search", "show_progress": "hidden", "trigger_mode": "always_last"}
    parts["words"].input(plain(desk, actions.search), [key, parts["words"]], **quick)
    parts["vary"].click(plain(desk, actions.vary), [key], **on_demand("variants"))
    parts["erase"].click(plain(desk, actions.erase), [key], **on_demand("erasing"))
    saved = parts["downloads"].select(chosen(desk), view, trigger_mode="multiple", **heavy)
    saved.then(None, parts["file"], parts["file"], js=SAVE)


def plain(desk: Desk, act: Callable[..., Answer]) -> Callable[..., list[Any]]:
    """An action as what gradio calls: progress, the visitor's key, and values in; the parts of the page out."""

    def run(progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        key, visit = desk.visit(values[0])
        with reporting(progress):
            return answered(key, act(desk, visit, *values[1:]))

    return run


def started(desk: Desk) -> Callable[..., list[Any]]:
    """The first picture of a page that was opened."""

    def act(desk: Desk, visit: Any, model: Any, *values: Any) -> Answer:
        return actions.choose_sample(desk, visit, next(iter(actions.SAMPLES)), model, Asked.of(*values))

    return plain(desk, act)


def chosen(desk: Desk) -> Callable[..., list[Any]]:
    """Whatever button was pressed; what it is for is data of the event."""

    def run(event: gr.EventData, progress: gr.Progress = PROGRESS, *values: Any) -> list[Any]:
        key, visit = desk.visit(values[0])
        with reporting(progress):
            data = event._data if isinstance(event._data, dict) else {}
            return answered(key, picked(desk, visit, data, values[1], checked(values[2:])))

    return run


def picked(desk: Desk, visit: Any, data: dict[str, Any], model: Any, asked: Asked | Answer) -> Answer:
    """The action that a button asks for."""
    kind, value = data.get("kind"), data.get("value")
    if isinstance(asked, Answer):
        return asked
    if kind == "sample":
        return actions.choose_sample(desk, visit, value, model, asked)
    if kind == "upload":
        return actions.choose_picture(desk, visit, value, model, asked)
    if kind in ("class", "beside"):
        index = int(str(value)) if str(value).isdecimal() else value
        return actions.choose_class(desk, visit, index, kind == "beside", asked)
    return actions.download(desk, visit, value)


def remodelled(desk: Desk, visit: Any, model: Any, *values: Any) -> Answer:
    """Another model was named."""
    asked = checked(values)
    return asked if isinstance(asked, Answer) else actions.choose_model(desk, visit, model, asked)


def redrawn(desk: Desk, visit: Any, *values: Any) -> Answer:
    """A method or a control of the display was changed."""
    asked = checked(values)
    return asked if isinstance(asked, Answer) else actions.redraw(desk, visit, asked)


def checked(values: Sequence[Any]) -> Asked | Answer:
    """What the controls say, or what is wrong with it."""
    try:
        return Asked.of(*values)
    except GradTokenError as error:
        return Answer(panels.message(str(error)))


def answered(key: str, answer: Answer) -> list[Any]:
    """The values of all outputs; a part that stays is skipped."""
    found = [getattr(answer, name) for name in ANSWERS]
    return [key, *(gr.skip() if value is None else value for value in found)]


def reporting(progress: Any) -> AbstractContextManager[None]:
    """Show the progress of long computations on the page."""

    def show(steps: Sequence[Any], what: str) -> Iterator[Any]:
        for i, step in enumerate(steps):
            if len(steps) > 1:
                progress((i, len(steps)), desc=getattr(step, "name", what))
            yield step

    return showing(show)
