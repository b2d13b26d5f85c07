// What the page does in the browser alone: sending pictures, numbers under the pointer, erasing along, saving files.
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const short = value => Number(value.toPrecision(3)).toString().replace("-", "\u2212");

  // Pictures are sent as they are; the server answers with a key, which starts the action.
  const say = text => all(".gt-sent").forEach(place => { place.textContent = text; });
  const send = async file => {
    const drop = document.querySelector(".gt-drop");
    if (!file || !drop) return;
    if (file.size > Number(drop.dataset.most))
      return say(`${file.name} is larger than the ${Math.floor(drop.dataset.most / 2 ** 20)} MB that this page takes`);
    say(`sending ${file.name}`);
    try {
      const name = encodeURIComponent(file.name.slice(-200));
      const answer = await fetch("upload", {method: "POST", body: file, headers: {"X-Gradtoken-Name": name}});
      const found = await answer.json();
      say(answer.ok ? "" : found.message);
      if (answer.ok) drop.dispatchEvent(new CustomEvent("gt-sent", {detail: found.key, bubbles: true}));
    } catch (error) {
      say("the picture could not be sent; is the server still running?");
    }
  };
  document.addEventListener("change", event => {
    if (event.target.id !== "gt-file") return;
    send(event.target.files[0]);
    event.target.value = "";
  });
  document.addEventListener("paste", event => {
    const file = [...event.clipboardData.files].find(one => one.type.startsWith("image/"));
    if (file) send(file);
  });
  for (const kind of ["dragover", "drop"])
    document.addEventListener(kind, event => {
      if (!event.dataTransfer || !event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      if (kind === "drop") send(event.dataTransfer.files[0]);
    });

  // Numbers: the same place in all maps, so that they can be compared. A click pins it, arrow keys move it.
  const known = new WeakMap();
  const mapOf = figure => {
    if (known.has(figure)) return known.get(figure);
    const map = JSON.parse(figure.dataset.map);
    if (map.halves) map.bytes = new DataView(Uint8Array.from(atob(map.halves), c => c.charCodeAt(0)).buffer);
    if (map.values) map.sorted = map.values.flat().sort((a, b) => b - a);
    known.set(figure, map);
    return map;
  };
  const half = bits => {
    const exponent = bits >> 10 & 31, fraction = (bits & 1023) / 1024;
    return (bits & 32768 ? -1 : 1) * (exponent ? 2 ** (exponent - 15) * (1 + fraction) : 2 ** -14 * fraction);
  };
  const valueAt = (map, row, column) => map.values ? map.values[row][column]
    : map.unit * half(map.bytes.getUint16(2 * (row * map.columns + column), true));
  const cell = (map, x, y) => {
    const [x0, y0, x1, y1] = map.box;
    const row = Math.floor((y - y0) / (y1 - y0) * map.rows), column = Math.floor((x - x0) / (x1 - x0) * map.columns);
    return row >= 0 && row < map.rows && column >= 0 && column < map.columns ? [row, column] : null;
  };
  let pinned = null;
  const show = (x, y) => all("figure[data-map]").forEach(figure => {
    const map = mapOf(figure), output = figure.querySelector(".gt-number"), cursor = figure.querySelector(".gt-cursor");
    const found = x === null ? null : cell(map, x, y);
    cursor.hidden = !found;
    if (!found || !(map.values || map.bytes))
      return void (output.textContent = x === null ? "" : found ? "" : "not seen by the model");
    const [row, column] = found, [x0, y0, x1, y1] = map.box, value = valueAt(map, row, column);
    const percent = (start, stop, part, parts) => `${100 * (start + (stop - start) * part / parts)}%`;
    cursor.style.left = percent(x0, x1, column, map.columns);
    cursor.style.top = percent(y0, y1, row, map.rows);
    cursor.style.width = percent(0, x1 - x0, 1, map.columns);
    cursor.style.height = percent(0, y1 - y0, 1, map.rows);
    const what = map.rows > 64 || map.columns > 64 ? "pixel" : "patch";
    const rank = map.sorted ? `, rank ${map.sorted.indexOf(value) + 1} of ${map.sorted.length}` : "";
    output.innerHTML = "<b></b> <span></span>";
    output.firstChild.textContent = short(value);
    output.lastChild.textContent = `${what} in row ${row + 1}, column ${column + 1}${rank}`;
  });
  const place = (stack, event) => {
    const area = stack.getBoundingClientRect();
    return [(event.clientX - area.left) / area.width, (event.clientY - area.top) / area.height];
  };
  const stackOf = event => event.target.closest ? event.target.closest(".gt-stack") : null;
  const back = () => pinned ? show(...pinned) : show(null, null);
  document.addEventListener("pointermove", event => {
    const stack = stackOf(event);
    if (stack) show(...place(stack, event));
  });
  document.addEventListener("pointerout", event => { if (stackOf(event)) back(); });
  document.addEventListener("click", event => {
    const stack = stackOf(event);
    if (stack) { pinned = place(stack, event); back(); }
  });
  const STEPS = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]};
  document.addEventListener("keydown", event => {
    const stack = stackOf(event);
    if (!stack || event.ctrlKey || event.altKey || event.metaKey) return;
    if (event.key === "Escape") { pinned = null; return back(); }
    const step = STEPS[event.key];
    if (!step) return;
    event.preventDefault();
    const map = mapOf(stack.parentElement), [x0, y0, x1, y1] = map.box;
    const [row, column] = (pinned && cell(map, ...pinned)) || [Math.floor(map.rows / 2), Math.floor(map.columns / 2)];
    const [x, y] = pinned ? step : [0, 0];
    const within = (value, most) => Math.min(Math.max(value, 0), most - 1) + 0.5;
    pinned = [x0 + within(column + x, map.columns) / map.columns * (x1 - x0),
              y0 + within(row + y, map.rows) / map.rows * (y1 - y0)];
    back();
    document.getElementById("gt-said").textContent = stack.parentElement.querySelector(".gt-number").textContent;
  });

  // Words: the value of the one under the pointer, or of the one that the arrow keys reached.
  const tell = (own, mark) => {
    const numbers = all("mark", own), at = numbers.indexOf(mark);
    all(".gt-words").forEach(box => {
      const marks = all("mark", box);
      if (marks.length !== numbers.length) return;
      all("mark.gt-on", box).forEach(one => one.classList.remove("gt-on"));
      marks[at].classList.add("gt-on");
      box.parentElement.querySelector(".gt-number").textContent = marks[at].title;
    });
  };
  const wordOf = event => event.target.closest ? event.target.closest(".gt-words mark") : null;
  for (const kind of ["pointerover", "click"])
    document.addEventListener(kind, event => {
      const mark = wordOf(event);
      if (mark) tell(mark.closest(".gt-words"), mark);
    });
  document.addEventListener("keydown", event => {
    const box = event.target.classList && event.target.classList.contains("gt-words") ? event.target : null;
    const step = {ArrowLeft: -1, ArrowRight: 1, ArrowUp: -1, ArrowDown: 1}[event.key];
    if (!box || !step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const marks = all("mark", box), at = marks.findIndex(one => one.classList.contains("gt-on"));
    const mark = marks[Math.min(Math.max(at + step, 0), marks.length - 1)];
    tell(box, mark);
    document.getElementById("gt-said").textContent = mark.title;
  });

  // Erasing: the slider blanks the patches that are gone at its step.
  const erase = box => {
    const steps = JSON.parse(box.dataset.erase), slider = box.querySelector("input");
    const canvas = box.querySelector("canvas"), picture = box.querySelector("img"), step = Number(slider.value);
    const last = steps.probability.length - 1, total = steps.order.length;
    const gone = Math.round(step / last * total);
    all("[data-word]", box).forEach(word => word.classList.toggle("gt-gone", steps.order[word.dataset.word] < gone));
    if (canvas) blank(canvas, picture, steps, gone);
    const at = box.closest(".gt-curves").querySelector(".gt-at"), x = steps.left + step / last * steps.width;
    at.setAttribute("x1", x);
    at.setAttribute("x2", x);
    box.querySelector("output").textContent =
      `${Math.round(100 * gone / total)} % erased: probability ${(100 * steps.probability[step]).toFixed(1)} %`;
  };
  const blank = (canvas, picture, steps, gone) => {
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    const pen = canvas.getContext("2d"), [x0, y0, x1, y1] = steps.box;
    pen.fillStyle = "#7c746b";
    const wide = (x1 - x0) * canvas.width / steps.columns, high = (y1 - y0) * canvas.height / steps.rows;
    steps.order.forEach((rank, i) => {
      if (rank >= gone) return;
      const left = x0 * canvas.width + i % steps.columns * wide, top = y0 * canvas.height + Math.floor(i / steps.columns) * high;
      pen.fillRect(left, top, wide + 0.5, high + 0.5);
    });
  };
  document.addEventListener("input", event => {
    const box = event.target.closest ? event.target.closest(".gt-erase") : null;
    if (box) erase(box);
  });

  // Small things: copied code, and the focus that stays where it was when a list is drawn anew.
  document.addEventListener("click", event => {
    const button = event.target.closest ? event.target.closest("[data-copy]") : null;
    if (!button) return;
    const code = button.parentElement.querySelector("code");
    getSelection().selectAllChildren(code);
    if (navigator.clipboard) navigator.clipboard.writeText(code.textContent).then(() => { button.textContent = "copied"; });
  });
  let pressed = null;
  document.addEventListener("click", event => {
    const button = event.target.closest ? event.target.closest(".gt-choice button") : null;
    if (button) pressed = "class" in button.dataset ? button.dataset.class : button.dataset.beside;
  });
  new MutationObserver(() => {
    if (pinned && all("figure[data-map] .gt-number:empty").length) back();
    all(".gt-erase output:empty").forEach(output => {
      const box = output.parentElement, picture = box.querySelector("img");
      if (!picture || picture.complete) erase(box); else picture.addEventListener("load", () => erase(box), {once: true});
    });
    all("[role=alert]:not(.gt-seen)").forEach(alert => {
      alert.classList.add("gt-seen");
      alert.scrollIntoView({block: "nearest"});
    });
    const found = pressed !== null && document.activeElement === document.body
      && document.querySelector(`.gt-choice [data-class="${CSS.escape(pressed)}"]`);
    if (found) { found.focus({preventScroll: true}); }
  }).observe(document, {childList: true, subtree: true});

  window.gradtoken = {
    save({name, type, content}) {
      const bytes = Uint8Array.from(atob(content), c => c.charCodeAt(0));
      const link = document.createElement("a");
      link.href = URL.createObjectURL(new Blob([bytes], {type}));
      link.download = name;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10000);
    },
  };
})();
