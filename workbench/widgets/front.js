// Draws the view of a panel and sends what a person does. Every text of a view becomes a text node or an attribute
// through the DOM, never markup, so nothing in a view can add an element or run. A change is applied to the elements
// that differ, so that focus, selection and scrolling stay where they are.

const el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) made.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined && value !== "") made.setAttribute(name, value);
  }
  made.append(...children);
  return made;
};
const tone = (node) => (node.tone ? `wb-${node.tone}` : "");
// Milliseconds without an answer of the kernel after which a person is told.
const PATIENCE = 3000;
const UNANSWERED = "The kernel has not answered: it is busy with a cell, or it was restarted. "
  + "If it is idle, run the cell again.";
const act = (node) => ({ "data-action": node.action, "data-value": JSON.stringify(node.value ?? null) });

const draw = {
  words: (node) => {
    const tag = node.heading ? `h${Math.min(6, Math.max(2, node.heading))}` : "p";
    return el(tag, { class: [tone(node), node.code ? "wb-code" : ""].join(" ").trim(), dir: "auto" }, node.text);
  },
  marked: (node) =>
    el("div", { class: "wb-marked", dir: "auto" }, ...node.parts.map(([text, mark]) => {
      if (mark === "match") return el("mark", {}, text);
      if (mark === "added") return el("ins", {}, el("span", { class: "wb-hidden" }, " added: "), text);
      if (mark === "removed") return el("del", {}, el("span", { class: "wb-hidden" }, " removed: "), text);
      return document.createTextNode(text);
    })),
  button: (node) =>
    el("button", {
      type: "button", ...act(node), class: node.primary ? "wb-primary" : "", disabled: node.disabled, dir: "auto",
      title: node.python, "aria-pressed": node.pressed === null ? null : String(node.pressed),
      "aria-keyshortcuts": node.shortcut, "data-shortcut": node.shortcut,
    }, node.label, ...(node.shortcut ? [el("kbd", { "aria-hidden": "true" }, node.shortcut)] : [])),
  field: (node) => {
    const shared = { "data-action": node.action, disabled: node.disabled, placeholder: node.placeholder };
    let input;
    if (node.options.length) {
      input = el("select", shared, ...node.options.map(([value, label]) => {
        const option = el("option", {}, label);
        option.setAttribute("value", value);
        return option;
      }));
    } else if (node.rows > 1) input = el("textarea", { ...shared, rows: node.rows, dir: "auto" });
    else input = el("input", { ...shared, type: "text", dir: "auto" });
    if (node.live) input.setAttribute("data-live", "");
    if (node.enter) input.setAttribute("data-enter", node.enter);
    input.wbText = node.text;
    return el("label", {}, el("span", {}, node.label), input);
  },
  group: (node) =>
    el("div", {
      class: node.row ? "wb-row" : "wb-column", role: node.label ? "group" : null, "aria-label": node.label,
    }, ...node.nodes.map(drawn)),
  details: (node) => {
    const made = el("details", {}, el("summary", { dir: "auto" }, node.summary),
      el("div", { class: "wb-column" }, ...node.nodes.map(drawn)));
    made.wbOpen = node.open;
    return made;
  },
  meter: (node) =>
    el("div", {}, el("p", {}, node.label),
      el("meter", { min: 0, max: node.most, value: node.value, "aria-label": node.label })),
  grid: (node) => {
    const head = node.headings.map((heading) => {
      const arrow = { ascending: " ▲", descending: " ▼" }[heading.sorted] ?? "";
      const inner = heading.action
        ? el("button", { type: "button", ...act(heading) }, heading.label + arrow) : heading.label;
      return el("th", {
        role: "columnheader", scope: "col", class: heading.numeric ? "wb-number" : "", "aria-sort": heading.sorted,
      }, inner);
    });
    const body = node.rows.map((row, i) =>
      el("tr", { role: "row", "aria-current": i === node.current ? "true" : null }, ...row.map((cell, k) =>
        el("td", {
          role: "cell", class: node.headings[k]?.numeric ? "wb-number" : "", "data-label": node.headings[k]?.label,
        }, drawn(cell)))));
    const pages = node.pages.length
      ? [el("div", { class: "wb-row" }, ...node.pages.map(drawn), el("p", { class: "wb-muted" }, node.place))] : [];
    return el("div", { class: "wb-column" },
      el("div", { class: "wb-scroll" },
        // The roles stay where a narrow screen shows rows as blocks (front.css).
        el("table", { role: "table" }, el("caption", { dir: "auto" }, node.caption),
          el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
          el("tbody", { role: "rowgroup" }, ...body))),
      ...pages);
  },
};

function drawn(node) {
  return (draw[node.t] ?? (() => el("p", { class: "wb-warn" }, "reload the page: it is older than the kernel")))(node);
}

// A field shows what a person is typing, unless the kernel has set another text than it last did.
function fill(field) {
  if (field.wbShown !== field.wbText) {
    field.wbShown = field.wbText;
    if (field.value !== field.wbText) field.value = field.wbText;
  }
}

function settle(root) {
  for (const field of root.querySelectorAll("input, select, textarea")) fill(field);
  for (const details of root.querySelectorAll("details")) {
    if (details.wbShown !== details.wbOpen) details.open = details.wbShown = details.wbOpen;
  }
}

// Changes `before` into `after`, an element of the same tag, keeping the element itself.
function patch(before, after) {
  if (before.dataset.action !== after.dataset.action) before.wbShown = undefined;  // another field
  for (const { name } of [...before.attributes]) {
    if (!after.hasAttribute(name) && !(before.tagName === "DETAILS" && name === "open")) before.removeAttribute(name);
  }
  for (const { name, value } of after.attributes) {
    if (before.getAttribute(name) !== value) before.setAttribute(name, value);
  }
  before.wbText = after.wbText;
  before.wbOpen = after.wbOpen;
  patchChildren(before, after);
}

function patchChildren(before, after) {
  const wanted = [...after.childNodes];
  wanted.forEach((node, i) => {
    const there = before.childNodes[i];
    if (!there) before.append(node);
    else if (there.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) {
      if (there.data !== node.data) there.data = node.data;
    } else if (there.nodeType === node.nodeType && there.tagName === node.tagName) patch(there, node);
    else there.replaceWith(node);
  });
  while (before.childNodes.length > wanted.length) before.lastChild.remove();
}

function valueOf(target) {
  return target.matches("input, select, textarea") ? target.value : JSON.parse(target.dataset.value);
}

function render({ model, el: host }) {
  // JupyterLab's shortcuts (such as "1" or "d d") do not apply to keys that are typed inside.
  const root = el("div", { class: "wb", "data-lm-suppress-shortcuts": "true", tabindex: "-1" });
  const body = el("div", { class: "wb-body" });
  const notice = el("div", { class: "wb-notice", role: "status", "aria-live": "polite", dir: "auto" });
  // A notice below a tall panel is shown over it while somebody acts in the panel (front.css).
  const end = el("div");
  const watch = new IntersectionObserver(([seen]) => notice.classList.toggle("wb-away", !seen.isIntersecting));
  root.append(body, end, notice);
  host.append(root);
  watch.observe(end);

  let waiting;
  const tell = (message) => {
    clearTimeout(waiting);
    const unanswered = () => { notice.textContent = UNANSWERED; };
    waiting = setTimeout(unanswered, PATIENCE);
    try {
      model.send(message);
    } catch {  // the connection to a kernel that was restarted
      unanswered();
    }
  };
  const send = (target) => tell({ action: target.dataset.action, value: valueOf(target) });
  const update = () => {
    clearTimeout(waiting);
    const content = model.get("content");
    const next = el("div", { class: "wb-body", "aria-busy": content.busy ? "true" : "false" }, drawn(content.view));
    const focused = () => root.contains(root.getRootNode().activeElement);
    const had = focused();
    patch(body, next);
    settle(body);
    if (had && !focused()) root.focus({ preventScroll: true });  // what had it is gone; keys still reach the panel
    const said = content.busy ? `${content.busy} …` : content.notice;
    if (notice.textContent !== said) notice.textContent = said;
  };
  root.addEventListener("click", (event) => {
    const button = event.target.closest("button[data-action]");
    if (button && !button.disabled) send(button);
  });
  root.addEventListener("change", (event) => {
    clearTimeout(event.target.wbTimer);
    if (event.target.matches("[data-action]")) send(event.target);
  });
  root.addEventListener("input", (event) => {
    const field = event.target;
    if (!field.matches("[data-live]")) return;
    clearTimeout(field.wbTimer);
    field.wbTimer = setTimeout(() => send(field), 250);
  });
  root.addEventListener("keydown", (event) => {
    event.stopPropagation();
    const { enter } = event.target.dataset;
    // After the event "change" of the same key, which sends the text.
    if (enter && event.key === "Enter" && !event.isComposing) {
      setTimeout(() => tell({ action: enter, value: null }));
    }
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    const pressed = [...root.querySelectorAll("[data-shortcut]")]
      .find((button) => button.dataset.shortcut === event.key && !button.disabled);
    if (pressed) {
      event.preventDefault();
      send(pressed);
    }
  });
  model.on("change:content", update);
  update();
  return () => {
    clearTimeout(waiting);
    watch.disconnect();
    model.off("change:content", update);
  };
}

export default { render };
