// The parts of a query. Each can be removed, and switched between added and subtracted.

const list = document.getElementById("parts");
const template = document.getElementById("part");

function nameOf(part) {
  if (part.kind === "text") return part.value;
  return part.kind === "row" ? `like no. ${part.value}` : "your image";
}

// Calls replace(part, [the parts in its place]) when a part is changed.
export function showChips(parts, addressOfPicture, replace) {
  list.replaceChildren(...parts.map((part) => {
    const item = template.content.cloneNode(true).firstElementChild;
    const [sign, remove] = [".sign", ".remove"].map((name) => item.querySelector(name));
    const name = nameOf(part);
    const weight = Math.abs(part.weight);
    const isLess = part.weight < 0;
    item.classList.toggle("subtracted", isLess);
    item.querySelector(".what").textContent = weight === 1 ? name : `${weight} × ${name}`;
    sign.textContent = isLess ? "−" : "+";
    sign.setAttribute("aria-label",
      `${name} is ${isLess ? "subtracted; add" : "added; subtract"} it instead`);
    sign.addEventListener("click", () => replace(part, [{ ...part, weight: -part.weight }]));
    remove.setAttribute("aria-label", `Remove ${name}`);
    remove.addEventListener("click", () => replace(part, []));
    if (part.kind !== "text") {
      const picture = item.querySelector("img");
      picture.addEventListener("error", () => picture.remove());
      picture.src = addressOfPicture(part);
      picture.hidden = false;
    }
    return item;
  }));
}
