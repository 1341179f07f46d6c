// Answers of the server, and what is said of those that are none.

// The JSON of an answer. One that was refused may have none: a server with too many connections says
// so in plain text.
export async function contentOf(response) {
  if (response.ok) return response.json();
  const { message } = await response.json().catch(() => ({}));
  throw new Error(message || `The server answers nothing now (${response.status}): try it again.`);
}

export function reasonOf(error) {
  return error instanceof TypeError ? "The server cannot be reached." : error.message;
}
