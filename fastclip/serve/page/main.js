// The state of the page: the line, other parts, and the answer. The address has all but images.

import { contentOf, reasonOf } from "./answers.js";
import { showChips } from "./chips.js";
import { onImage } from "./dropping.js";
import { addressOf, base64Of, lineOf, readAddress, sent } from "./query.js";
import { focusResult, show } from "./results.js";

const FIRST = 40; // results; "Show more" doubles them
const JUDGED = {
  normal: "judged by the mean and covariance of all vectors",
  captions: "compared with the best matches of other captions",
};
const at = (id) => document.getElementById(id);
const images = new Map(); // the images that were dropped during this visit, by name
const visit = crypto.getRandomValues(new Uint32Array(2)).join("-"); // its name in the history
let others = []; // parts that are rows and images
let shownParts = []; // parts as the server has understood them
let answer = null;
let wanted = FIRST;
let most = FIRST; // the most results that the server allows
let asking = null; // the request that is in progress

const firstSide = () => at("over").options[0].value;

function write() {
  const over = at("over").value === firstSide() ? "" : at("over").value;
  const options = { over, dedup: at("dedup").checked ? "1" : "" };
  const kept = others.filter((part) => part.kind === "image")
    .map((part) => ({ image: part.image, weight: part.weight }));
  const address = addressOf(at("query").value.trim(), others, options);
  // Addresses do not have images: equal addresses mean the same search only without images.
  const isSame = address === location.search && !kept.length && !history.state?.kept?.length;
  history[isSame ? "replaceState" : "pushState"]({ kept }, "", address);
}

function read(state) {
  const found = readAddress(location.search);
  const kept = state?.kept ?? [];
  const known = kept.filter(({ image }) => images.has(image));
  at("query").value = found.line;
  others = [...found.rows, ...known.map(({ image, weight }) => imagePart(image, weight))];
  at("over").value = found.over || firstSide();
  at("dedup").checked = found.dedup;
  wanted = FIRST;
  const left = [...found.unread];
  if (!at("over").value) {
    left.push(`over=${found.over}`);
    at("over").value = firstSide();
  }
  search();
  if (left.length) fail(`These parts of the address are ignored, as they cannot be read: ${left.join(", ")}.`);
  if (known.length < kept.length) fail("The image of this search is gone. Drop it again.");
}

function imagePart(image, weight = 1) {
  return { kind: "image", value: images.get(image).base64, weight, image };
}

function change(parts) {
  others = parts;
  ask();
}

function ask() {
  wanted = FIRST;
  write();
  search();
}

async function search(kept = 0) {
  const line = at("query").value.trim();
  asking?.abort();
  fail("");
  document.title = [line, at("name").textContent].filter(Boolean).join(" – ");
  at("how").hidden = Boolean(line) || others.length > 0;
  if (!line && !others.length) {
    asking = null;
    showParts([]);
    finish({ headline: "", over: "", results: [], images: [] }, 0);
    return;
  }
  const own = asking = new AbortController();
  at("results").setAttribute("aria-busy", "true");
  const body = { q: line, parts: others.map(sent), top: wanted, dedup: at("dedup").checked };
  if (at("over").value) body.over = at("over").value;
  try {
    const response = await fetch("search", {
      method: "POST", body: JSON.stringify(body), signal: own.signal,
    });
    const found = await contentOf(response);
    if (own !== asking) return;
    showParts(found.parts);
    finish(found, kept);
  } catch (error) {
    if (own !== asking || error.name === "AbortError") return;
    showParts([...shownParts.filter((part) => part.kind === "text"), ...others]);
    finish({ headline: "", over: "", results: [], images: [] }, 0);
    fail(reasonOf(error));
  }
}

function finish(found, kept) {
  answer = found;
  show(found, kept, act);
  at("headline").textContent = found.headline;
  at("judged").textContent = JUDGED[found.judged_by] ?? "";
  const isChance = found.judged_by in JUDGED && !found.results.some((result) => result.stands_out);
  at("headline").classList.toggle("nothing", isChance);
  at("results").removeAttribute("aria-busy");
  at("export").disabled = !found.results.length;
  at("numbers").hidden = !found.results.length;
  at("more").hidden = found.results.length < wanted || wanted >= most;
}

function fail(text) {
  at("error").textContent = text;
}

function act(name, row) {
  const part = { kind: "row", value: row.id, weight: name === "subtract" ? -1 : 1 };
  if (name === "like") at("query").value = "";
  change(name === "like" ? [part] : [...others.filter((o) => o.value !== row.id), part]);
  scrollTo({ top: 0 });
}

// Shows the texts as the server has read them, then rows and images in the order of `others`.
function showParts(parts) {
  shownParts = parts;
  const texts = parts.filter((part) => part.kind === "text");
  const addressOfPicture = (part) => (
    part.kind === "row" ? `image/${part.value}` : images.get(part.image).url);
  showChips([...texts, ...others], addressOfPicture, (part, by) => {
    const replaced = (all) => all.flatMap((other) => (other === part ? by : [other]));
    if (part.kind === "text") {
      at("query").value = lineOf(replaced(texts));
      ask();
    } else change(replaced(others));
    at("query").focus();
  });
}

async function searchImage(file) {
  const base64 = await base64Of(file);
  const name = `${visit}-${images.size}`;
  images.set(name, { base64, url: URL.createObjectURL(file) });
  at("query").value = "";
  change([imagePart(name)]);
}

function save() {
  const results = JSON.stringify({ ...answer, images: undefined }, null, 1);
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([results], { type: "application/json" }));
  link.download = "results.json";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
at("query").addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown") return;
  event.preventDefault();
  focusResult(0);
});
at("more").addEventListener("click", () => {
  const kept = answer.results.length;
  wanted = Math.min(2 * wanted, most);
  search(at("dedup").checked ? 0 : kept).then(() => focusResult(kept));
});
at("export").addEventListener("click", save);
for (const id of ["over", "dedup"]) at(id).addEventListener("change", ask);
for (const id of ["captions", "scores"]) {
  const apply = () => at("results").classList.toggle(`no-${id}`, !at(id).checked);
  at(id).addEventListener("change", apply);
  apply();
}
document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest("input:not([type=checkbox]), select, textarea");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  at("query").focus();
  at("query").select();
});
onImage(searchImage, fail);
addEventListener("popstate", (event) => read(event.state));

try {
  const { name, sides, most_results: mostResults } = await contentOf(await fetch("health"));
  at("name").textContent = name;
  most = mostResults;
  for (const side of Object.keys(sides)) at("over").append(new Option(side, side));
  at("over-label").hidden = Object.keys(sides).length < 2;
  read(history.state);
  if (!location.search) at("query").focus();
} catch (error) {
  fail(reasonOf(error));
}
