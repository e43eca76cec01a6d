// The messages of the page: those that were said, in the order of the server's times, and
// after them the visitor's own that are still on their way or have failed. DOM only.

const MAX_SHOWN = 300; // a page that is left open must not grow for ever
const PAUSE = 5 * 60 * 1000; // ms; after it a message stands by itself, with its time

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

/** Make an element: text goes in by `append`, so that none of it is ever read as HTML. */
export function make(tag, className = "", ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

/** Give the round mark of a user: the first letter of the name. */
export function face(name) {
  const mark = make("span", "face", [...name][0].toUpperCase());
  mark.setAttribute("aria-hidden", "true");
  return mark;
}

export class Talk {
  #log;
  #list;
  #me = null;
  #isAtEnd = true; // a visitor who looks at the end still does so after a change
  #size = ""; // of the log and what is in it, when it was last followed

  /** `log` scrolls, `list` is the `ol` in it. */
  constructor(log, list) {
    this.#log = log;
    this.#list = list;
    const size = () => `${log.scrollHeight} ${log.clientHeight}`;
    log.addEventListener("scroll", () => {
      // Firefox scrolls by itself when the size changes, before the observer hears of it.
      if (size() !== this.#size) return;
      this.#isAtEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 80;
    });
    const follow = new ResizeObserver(() => {
      this.#size = size();
      if (this.#isAtEnd) this.#toEnd();
    });
    follow.observe(log);
    follow.observe(list);
  }

  get isEmpty() {
    return this.#list.childElementCount === 0;
  }

  /** Forget what was said, but not what is on its way. */
  clear() {
    for (const item of this.#list.querySelectorAll("[data-at]")) item.remove();
  }

  /** Say which of the messages are the visitor's own. */
  set me(name) {
    if (name === this.#me) return;
    this.#me = name;
    for (const item of this.#list.children) {
      item.classList.toggle("mine", item.dataset.from === name);
    }
  }

  /** Show `{from, text, key, at}`; one that is there already, or was pending, only settles. */
  said({ from, text, key, at }) {
    if (this.#list.querySelector(`[data-at="${at}"]`)) return;
    const item = this.#find(from, key) ?? this.#item({ from, text, key });
    item.classList.remove("pending", "failed");
    item.querySelector(".fate").replaceChildren();
    item.dataset.at = at;
    const time = item.querySelector("time");
    time.dateTime = new Date(at).toISOString();
    time.textContent = clock.format(at);
    this.#place(item, at);
    while (this.#list.childElementCount > MAX_SHOWN) this.#list.firstElementChild.remove();
  }

  /** Show a message that is on its way; `fate` says what it waits for. */
  pending({ from, text, key }, fate = "") {
    const item = this.#find(from, key) ?? this.#item({ from, text, key });
    item.classList.add("pending");
    item.classList.remove("failed");
    item.querySelector(".fate").replaceChildren(fate);
    this.#list.append(item);
    this.#group(item);
    this.#toEnd();
  }

  /** Say of all pending messages what they wait for. */
  set waiting(fate) {
    for (const place of this.#list.querySelectorAll(".pending .fate")) place.replaceChildren(fate);
  }

  /** Show that a message was not sent, and a button that does something about it. */
  failed({ from, key }, why, label, act) {
    const item = this.#find(from, key);
    if (!item || item.dataset.at) return; // it was: only the word of it got lost
    const button = make("button", "link", label);
    button.type = "button";
    button.addEventListener("click", act);
    item.classList.replace("pending", "failed");
    item.querySelector(".fate").replaceChildren(make("span", "", why), button);
  }

  drop({ from, key }) {
    const item = this.#find(from, key);
    const next = item?.nextElementSibling;
    item?.remove();
    if (next) this.#group(next);
  }

  #find(from, key) {
    const isIt = (item) => item.dataset.key === key && item.dataset.from === from;
    return [...this.#list.children].reverse().find(isIt);
  }

  #item({ from, text, key }) {
    const by = make("div", "by", make("b", "", from), make("time"));
    by.firstChild.dir = "auto";
    const item = make(
      "li",
      from === this.#me ? "mine" : "",
      face(from),
      by,
      make("div", "said", text),
      make("div", "fate"),
    );
    item.dataset.from = from;
    item.dataset.key = key;
    return item;
  }

  /** Put an item behind all that were said before it: mostly at the end, before the pending. */
  #place(item, at) {
    let before = this.#list.lastElementChild;
    while (before && (before === item || !(Number(before.dataset.at ?? Infinity) < at))) {
      before = before.previousElementSibling;
    }
    if (before) before.after(item);
    else this.#list.prepend(item);
    this.#group(item);
    if (item.nextElementSibling) this.#group(item.nextElementSibling);
  }

  /** Show the name only on the first of several messages. */
  #group(item) {
    const former = item.previousElementSibling;
    const isFirst =
      former?.dataset.from !== item.dataset.from ||
      Number(item.dataset.at) - Number(former.dataset.at) > PAUSE;
    item.classList.toggle("first", isFirst);
  }

  #toEnd() {
    this.#log.scrollTop = this.#log.scrollHeight;
  }
}
