// Prints the style rules that Plotly injects into a page, as a stylesheet of its own.
//
// Plotly adds its rules to an inline <style> at load, which the site's content security policy forbids. A page that
// links this output as <link id="plotly.js-style-global" class="no-inline-styles"> stops Plotly from injecting them.
// This loads the bundle beside a document that can do nothing but record rules; it draws nothing.
//
// Usage: node plotly_stylesheet.cjs BUNDLE.js

const fs = require("node:fs");
const vm = require("node:vm");

const rules = [];
// Plotly inserts each rule at index 0, so the last one it inserts comes first in the sheet.
const sheet = { insertRule: (rule) => rules.unshift(rule) };

function element() {
  return { sheet, style: { setProperty() {} }, setAttribute() {}, appendChild() {} };
}

const document = {
  documentElement: element(),
  head: element(),
  createElement: element,
  createElementNS: element,
  createTextNode: () => ({}),
  getElementById: () => null,
  addEventListener() {},
};

class Element {
  setAttribute() {}
  setAttributeNS() {}
}
class CSSStyleDeclaration {
  setProperty() {}
}

class DOMParser {}

const window = { document, Element, CSSStyleDeclaration, DOMParser, URL, navigator: { userAgent: "" } };
window.window = window;
window.self = window;
window.addEventListener = () => {};

vm.runInNewContext(fs.readFileSync(process.argv[2], "utf8"), window);
if (!rules.some((rule) => rule.startsWith(".js-plotly-plot"))) {
  throw new Error(`${process.argv[2]}: inserted ${rules.length} rules and none for .js-plotly-plot; is it Plotly?`);
}
process.stdout.write(rules.join("\n") + "\n");
