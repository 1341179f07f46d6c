// Results as cards. Captions and paths become text, never markup.

const list = document.getElementById("results");
const template = document.getElementById("result");

export function nameOf(row) {
  return String(row.caption || row.image_path || row.key || `row ${row.id}`);
}

function numbersOf(row) {
  const known = [row.similarity.toFixed(4)];
  if (row.z !== null) known.push(`z ${row.z.toFixed(2)}`);
  if (row.expected_chance_hits !== null) known.push(`chance ${short(row.expected_chance_hits)}`);
  if (row.p_value !== null) known.push(`p ${short(row.p_value)}`);
  if (row.alike > 1) known.push(`${row.alike} alike`);
  return known.join(" · ");
}

function short(value) {
  return value >= 0.01 ? Number(value.toPrecision(2)).toString() : value.toExponential(0);
}

function card(row, image, act) {
  const item = template.content.cloneNode(true).firstElementChild;
  const article = item.querySelector("article");
  const picture = item.querySelector(".picture");
  const open = item.querySelector(".open");
  const standsOut = row.stands_out === true;
  item.querySelector(".caption").textContent = nameOf(row);
  item.querySelector(".numbers").textContent = numbersOf(row);
  item.querySelector(".mark").hidden = !standsOut;
  article.classList.toggle("stands-out", standsOut);
  article.setAttribute("aria-label",
    `${row.rank}: ${nameOf(row)}${standsOut ? ", stands out" : ""}`);
  article.dataset.row = row.id;
  const withoutPicture = () => {
    article.classList.add("words");
    picture.remove();
    open.remove();
  };
  if (image === null) {
    withoutPicture();
  } else {
    const shown = picture.firstElementChild;
    shown.addEventListener("error", withoutPicture);
    shown.src = image;
    open.href = `${image}?size=large`;
  }
  for (const name of ["like", "add", "subtract"]) {
    item.querySelector(`.${name}`).addEventListener("click", () => act(name, row));
  }
  article.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && event.target === article) act("like", row);
  });
  article.addEventListener("focusin", () => reach(article));
  return item;
}

// Tab reaches one card and its buttons; arrow keys move from card to card.
function reach(article) {
  for (const other of list.querySelectorAll("article")) {
    const isIt = other === article;
    other.tabIndex = isIt ? 0 : -1;
    for (const part of other.querySelectorAll("button, a")) part.tabIndex = isIt ? 0 : -1;
  }
}

// Shows an answer; the first `kept` cards, which are shown already, stay as they are.
export function show(answer, kept, act) {
  const images = answer.over === "texts" ? answer.images.map(() => null) : answer.images;
  while (list.children.length > kept) list.lastElementChild.remove();
  answer.results.slice(kept).forEach((row, place) => {
    list.append(card(row, images[kept + place], act));
  });
  if (list.firstElementChild && kept === 0) reach(list.querySelector("article"));
}

export function focusResult(place) {
  const cards = [...list.querySelectorAll("article")];
  cards[Math.max(0, Math.min(place, cards.length - 1))]?.focus();
}

function columns() {
  const tops = [...list.children].map((item) => item.offsetTop);
  return Math.max(1, tops.filter((top) => top === tops[0]).length);
}

list.addEventListener("keydown", (event) => {
  const cards = [...list.querySelectorAll("article")];
  const place = cards.indexOf(event.target.closest?.("article"));
  const moves = {
    ArrowLeft: place - 1, ArrowRight: place + 1, ArrowUp: place - columns(),
    ArrowDown: place + columns(), Home: 0, End: cards.length - 1,
  };
  if (place < 0 || !(event.key in moves) || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  if (event.key === "ArrowUp" && moves.ArrowUp < 0) document.getElementById("query").focus();
  else focusResult(moves[event.key]);
});
