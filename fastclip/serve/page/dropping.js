// Images that the user drops, pastes or picks.

const shade = document.getElementById("drop");
const file = document.getElementById("file");

// Calls take(file) with an image file, and complain(text) if there is none.
export function onImage(take, complain) {
  const takeFirst = (files) => {
    const found = [...(files ?? [])].find((one) => one.type.startsWith("image/"));
    if (found) take(found);
    return Boolean(found);
  };
  document.getElementById("pick").addEventListener("click", () => file.click());
  file.addEventListener("change", () => {
    if (file.files.length && !takeFirst(file.files)) complain("The picked file is not an image.");
    file.value = "";
  });
  document.addEventListener("paste", (event) => {
    if (takeFirst(event.clipboardData?.files)) event.preventDefault();
  });
  let depth = 0; // of elements that something is dragged over
  const enter = (by) => {
    depth = Math.max(0, depth + by);
    shade.hidden = depth === 0;
  };
  document.addEventListener("dragenter", () => enter(1));
  document.addEventListener("dragleave", () => enter(-1));
  document.addEventListener("dragover", (event) => event.preventDefault());
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    enter(-depth);
    if (!takeFirst(event.dataTransfer?.files)) complain("You did not drop an image file.");
  });
}
