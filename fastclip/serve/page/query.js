// A query is a list of parts: {kind: "text" | "row" | "image", value, weight}. Texts are written in
// one line as people type them, and rows in the address as `like=0.5:7`; images are in neither.

export function lineOf(parts) {
  const pieces = parts.filter((part) => part.kind === "text").flatMap((part) => {
    const weight = Math.abs(part.weight);
    const words = part.value.split(/\s+/);
    const plain = words.join(" ") === part.value && !part.value.includes(":")
      && !words.some((word) => /^[+-]/.test(word));
    const head = weight === 1 && plain ? "" : `${weight}:`;
    return [part.weight < 0 ? "-" : "+", head + (plain ? part.value : `"${part.value}"`)];
  });
  return (pieces[0] === "+" ? pieces.slice(1) : pieces).join(" ");
}

export function addressOf(line, parts, options) {
  const fields = new URLSearchParams();
  if (line) fields.set("q", line);
  for (const part of parts) {
    if (part.kind === "row") {
      fields.append("like", part.weight === 1 ? `${part.value}` : `${part.weight}:${part.value}`);
    }
  }
  for (const [name, value] of Object.entries(options)) if (value) fields.set(name, value);
  const text = fields.toString();
  return text ? `?${text}` : location.pathname;
}

// Returns the line and the rows of an address, and the fields that cannot be read.
export function readAddress(search) {
  const fields = new URLSearchParams(search);
  const rows = [];
  const unread = [...fields.keys()].filter((name) => !["q", "like", "over", "dedup"].includes(name));
  for (const text of fields.getAll("like")) {
    const [, weight = "1", row] = /^(?:([-+.\de]+):)?(\d{1,15})$/.exec(text) ?? [];
    const part = { kind: "row", value: Number(row), weight: Number(weight) };
    if (row && Number.isFinite(part.weight) && part.weight) rows.push(part);
    else unread.push(`like=${text}`);
  }
  return {
    line: fields.get("q") ?? "",
    rows,
    over: fields.get("over") ?? "",
    dedup: fields.get("dedup") === "1",
    unread,
  };
}

// Returns what is sent for a part that is not in the line.
export function sent(part) {
  return { [part.kind]: part.value, weight: part.weight };
}

export async function base64Of(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  let text = "";
  for (let start = 0; start < bytes.length; start += 32768) {
    text += String.fromCharCode(...bytes.subarray(start, start + 32768));
  }
  return btoa(text);
}
