// Making and changing elements. Texts go through `textContent`, which is never markup.

/**
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} [attributes] `text` is the text; `false` leaves an attribute out
 * @param {...(Node | string)} children
 * @returns {HTMLElement}
 */
export function make(tag, attributes = {}, ...children) {
  return /** @type {HTMLElement} */ (fill(document.createElement(tag), attributes, children));
}

/**
 * The same for SVG.
 * @param {string} tag
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElement}
 */
export function draw(tag, attributes = {}, ...children) {
  return /** @type {SVGElement} */ (fill(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children));
}

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = String(value);
    else if (value !== false) node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children);
  return node;
}

/** @param {string} id @returns {HTMLElement} */
export const byId = (id) => /** @type {HTMLElement} */ (document.getElementById(id));

/** Set a text if it is another one: the page is not laid out anew for nothing. */
export function setText(node, text) {
  if (node.firstChild === null || node.firstChild.data !== text) node.textContent = text;
}

export function setHidden(node, isHidden) {
  if (node.hidden !== isHidden) node.hidden = isHidden;
}

export function setClass(node, name) {
  if (node.className !== name) node.className = name;
}

/**
 * Let a list have these elements in this order. Elements that stay are not touched, so they keep the focus.
 * @param {HTMLElement} list
 * @param {HTMLElement[]} wanted
 */
export function arrange(list, wanted) {
  const kept = new Set(wanted);
  for (let node = list.firstElementChild; node !== null;) {
    const next = node.nextElementSibling;
    if (!kept.has(/** @type {HTMLElement} */ (node))) remove(node);
    node = next;
  }
  let place = list.firstElementChild;
  for (const node of wanted) {
    if (node === place) place = place.nextElementSibling;
    else move(list, node, place);
  }
}

/** Remove an element. If it has the focus, the next row gets it: a reader with a keyboard must not begin anew. */
function remove(node) {
  if (node.contains(document.activeElement)) {
    const rows = [...document.querySelectorAll("button.row")];
    const at = rows.findIndex((row) => node.contains(row));
    const next = rows[at + 1] ?? rows[at - 1];
    node.remove();
    if (next) next.focus({ preventScroll: true });
    return;
  }
  node.remove();
}

function move(list, node, before) {
  const focused = node.contains(document.activeElement) ? document.activeElement : null;
  list.insertBefore(node, before);
  if (focused && document.activeElement !== focused) focused.focus({ preventScroll: true });
}
