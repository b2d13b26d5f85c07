"""The page as gradio components: where they stand, which of them starts which action, and where its answer goes."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial
from typing import Any

import gradio as gr

from gradtoken.draw.grid import INTERPOLATIONS
from gradtoken.web import events, panels
from gradtoken.web.asked import COLOURS, Asked
from gradtoken.web.samples import thumbnails
from gradtoken.web.visits import Desk

Parts = dict[str, Any]
Places = dict[str, Callable[[Desk], Parts]]
TITLE = "What did the Transformer see?"
CONTROLS = tuple(field.name for field in fields(Asked))
AT_ONCE = 4  # actions at the same time; each model still serves one after the other
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
        with gr.Tab("Picture"):
            pictures = {"key": key} | placed(desk, PLACES)
        with gr.Tab("Text"):
            texts = {"key": key} | placed(desk, TEXT_PLACES)
        connect(desk, pictures, blocks)
        connect_texts(desk, texts)
        names = [pictures["methods"], texts["methods"]]
        blocks.load(events.method_names, None, names, show_progress="hidden", api_visibility="private")
    return blocks


def placed(desk: Desk, places: Places) -> Parts:
    """The columns of a tab; where they stand is for page.css."""
    parts: Parts = {}
    with gr.Row(elem_classes="gt-page"):
        for name, place in places.items():
            with gr.Column(elem_classes=["gt-block", f"gt-{name}"], min_width=280):
                parts |= place(desk)
    return parts


def html(value: str = "", **how: Any) -> Any:
    """A part of the page that is ours alone, without gradio's style for texts."""
    return gr.HTML(value, apply_default_css=False, **how)


def place_input(desk: Desk) -> Parts:
    """Picture and model."""
    settings = desk.settings
    drop = html(panels.drop(settings.bytes, thumbnails()), js_on_load=PICKED)
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
    parts = {"message": html(), "maps": html(elem_classes="gt-shown")}
    parts |= {"downloads": html(panels.downloads(), js_on_load=PICKED), "file": gr.JSON(visible=False)}
    with gr.Accordion("The same in Python", open=False):
        parts["code"] = html()
    return parts


def place_options(_: Desk) -> Parts:
    """Classes, methods, and how the maps are drawn."""
    usual = Asked()
    words = gr.Textbox(
        label="Class",
        info="for CLIP and its kin write a caption, and press Enter",
        placeholder="search all classes",
        max_lines=1,
        elem_id="gt-search",
    )
    classes = html(js_on_load=PICKED, elem_classes="gt-choice")
    methods = gr.Dropdown(list(usual.methods), value=list(usual.methods), multiselect=True, label="Methods")
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


def place_more(_: Desk, unit: str = "patch") -> Parts:
    """What is computed on demand."""
    with gr.Accordion("Inside GradToken: heads, depths, schemes", open=False):
        parts = {"vary": gr.Button("Show them"), "variants": html()}
    with gr.Accordion("Is the map faithful? Erase and watch", open=False):
        parts |= {"erase": gr.Button(f"Erase {unit} by {unit}"), "erasing": html()}
    return parts


PLACES: Places = {
    "input": place_input,
    "result": place_result,
    "options": place_options,
    "more": place_more,
}


def connect(desk: Desk, parts: Parts, blocks: Any) -> None:
    """Which component starts what."""
    key, outputs = parts["key"], [parts["key"], *(parts[name] for name in events.ANSWERS)]
    controls = [parts[name] for name in CONTROLS]
    view = [key, parts["model"], *controls]
    usual: dict[str, Any] = {"outputs": outputs, "concurrency_limit": AT_ONCE, "api_visibility": "private"}
    heavy = usual | {"concurrency_id": "models", "show_progress_on": parts["maps"]}
    quick = usual | {"concurrency_id": "search", "show_progress": "hidden", "trigger_mode": "always_last"}
    blocks.load(events.valued(desk, "start"), view, **heavy)
    pressed = [parts[name].select for name in ("drop", "classes")]
    gr.on(pressed, events.pressed(desk), view, trigger_mode="multiple", **heavy)
    parts["model"].input(events.valued(desk, "choose_model"), view, **heavy)
    changed = [parts[n].release if isinstance(parts[n], gr.Slider) else parts[n].input for n in CONTROLS]
    gr.on(changed, events.valued(desk, "redraw"), [key, *controls], trigger_mode="always_last", **heavy)
    parts["words"].input(events.valued(desk, "search"), [key, parts["words"]], **quick)
    said = parts["words"].submit(events.valued(desk, "ask"), [key, parts["words"], *controls], **heavy)
    cleared = said.then(None, None, parts["words"], js="() => ''")
    cleared.then(events.valued(desk, "search"), [key, parts["words"]], **quick)  # after those of the last letters
    for button, part in (("vary", "variants"), ("erase", "erasing")):
        shown = heavy | {"show_progress_on": parts[part]}
        parts[button].click(events.valued(desk, button), [key], **shown)
    saved = parts["downloads"].select(events.pressed(desk), view, trigger_mode="multiple", **heavy)
    saved.then(None, parts["file"], parts["file"], js=SAVE)


# Texts ----------------------------------------------------------------------------------------------------------------


def place_text(desk: Desk) -> Parts:
    """Text, model, methods, and the classes that are found."""
    settings, usual = desk.settings, Asked()
    text = gr.Textbox(label="Text", lines=8, max_lines=20, placeholder="write or paste a text", elem_id="gt-text")
    model = gr.Dropdown(
        list(settings.models) if settings.models != ("bundled",) else [],
        value=None,
        label="Model of texts",
        info="type the name of a classifier on the hub, or the path of its folder" if settings.private else None,
        allow_custom_value=settings.private,
    )
    methods = gr.Dropdown(list(usual.methods), value=list(usual.methods), multiselect=True, label="Methods")
    whole = gr.Checkbox(False, label="Read all of a long text, in windows")
    read, classes = gr.Button("Explain"), html(js_on_load=PICKED, elem_classes="gt-choice")
    return {"text": text, "model": model, "methods": methods, "whole": whole, "read": read, "classes": classes}


TEXT_PLACES: Places = {
    "input": place_text,
    "result": place_result,
    "more": partial(place_more, unit="word"),
}
TEXT_ANSWERS = ("message", "maps", "classes", "code", "variants", "erasing", "file")


def connect_texts(desk: Desk, parts: Parts) -> None:
    """Which component of the tab for texts starts what."""
    key, methods = parts["key"], parts["methods"]
    usual: dict[str, Any] = {
        "outputs": [key, *(parts[name] for name in TEXT_ANSWERS)],
        "concurrency_limit": AT_ONCE,
        "concurrency_id": "models",
        "api_visibility": "private",
        "show_progress_on": parts["maps"],
    }
    wanted = [key, parts["text"], parts["model"], methods, parts["whole"]]
    gr.on([parts["read"].click], events.valued(desk, "read_text", TEXT_ANSWERS), wanted, **usual)
    for button, part in (("vary", "variants"), ("erase", "erasing")):
        shown = usual | {"show_progress_on": parts[part]}
        parts[button].click(events.valued(desk, f"{button}_text", TEXT_ANSWERS), [key], **shown)
    methods.input(events.valued(desk, "redraw_text", TEXT_ANSWERS), [key, methods], **usual)
    pressed = events.pressed(desk, "press_text", TEXT_ANSWERS)
    parts["classes"].select(pressed, [key, methods], **usual)
    saved = parts["downloads"].select(pressed, [key, methods], **usual)
    saved.then(None, parts["file"], parts["file"], js=SAVE)
