/** Messages as elements. A model's text is only ever the text of an element, never HTML. */

const SPEAKERS = { user: "You", assistant: "Answer" };
const OPEN = "\u2591"; // a position of a canvas that is not decided yet

/** A new element. */
export function element(tag, properties = {}, children = []) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Text as blocks {language, text}; language is null outside of code. An open fence reaches to the end. */
export function blocks(text) {
  const found = [];
  let fence = "";
  for (const line of text.split("\n")) {
    const [, mark, language] = /^ {0,3}(`{3,}|~{3,})\s*([^`\s]*)/.exec(line) ?? [];
    if (!fence && mark) {
      fence = mark;
      found.push({ language, lines: [] });
    } else if (fence && mark?.startsWith(fence) && !language) {
      fence = "";
      found.push({ language: null, lines: [] });
    } else {
      if (!found.length) found.push({ language: null, lines: [] });
      found.at(-1).lines.push(line);
    }
  }
  const joined = found.map(({ language, lines }) => ({ language, text: lines.join("\n") }));
  const trimmed = joined.map((block) => (block.language === null ? { ...block, text: block.text.trim() } : block));
  return trimmed.filter(({ language, text }) => language !== null || text);
}

/** An empty article for a message; `fill` writes it. */
export function article(message) {
  const made = element("article", {}, [
    element("h2", { textContent: SPEAKERS[message.role] }),
    element("div"),
    element("aside", { className: "canvas", hidden: true, ariaHidden: "true" }),
    element("footer"),
  ]);
  made.dataset.role = message.role;
  return made;
}

/** Bring an article up to date. Blocks that did not change stay, and with them what is selected in them. */
export function fill(made, message) {
  const [, body, canvas, footer] = made.children;
  const wanted = blocks(message.content);
  wanted.forEach((block, place) => {
    const there = body.children[place];
    if (there && there.dataset.language === String(block.language)) {
      const text = there.querySelector("code") ?? there;
      if (text.textContent !== block.text) text.textContent = block.text;
    } else if (there) there.replaceWith(shown(block));
    else body.append(shown(block));
  });
  while (body.children.length > wanted.length) body.lastChild.remove();
  canvas.textContent = (message.canvas ?? []).map((piece) => piece ?? OPEN).join("");
  canvas.hidden = !canvas.textContent;
  footer.textContent = [message.note, message.stats].filter(Boolean).join(" · ");
}

function shown({ language, text }) {
  const made = language === null ? element("p", { textContent: text }) : code(language, text);
  made.dataset.language = String(language);
  return made;
}

function code(language, text) {
  const inside = element("code", { textContent: text });
  const copy = element("button", { type: "button", textContent: "Copy" });
  copy.setAttribute("aria-label", "Copy this code");
  copy.hidden = !navigator.clipboard; // not there on a page that came over plain HTTP from afar
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(inside.textContent);
    copy.textContent = "Copied";
  });
  const caption = element("figcaption", {}, [element("span", { textContent: language }), copy]);
  const block = element("pre", { tabIndex: 0 }, [inside]);
  return element("figure", {}, [caption, block]);
}
