// Answers of the server, and messages about errors.

// Returns the JSON of an answer. An error may have no JSON: a server with too many connections
// answers in plain text.
export async function contentOf(response) {
  if (response.ok) return response.json();
  const { message } = await response.json().catch(() => ({}));
  throw new Error(message || `The server cannot answer now (${response.status}). Try again.`);
}

export function reasonOf(error) {
  return error instanceof TypeError ? "The server cannot be reached." : error.message;
}
