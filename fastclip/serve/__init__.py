"""A folder of embeddings as a server: search for programs and, in a page, for people.

server      from a service to a socket and back: signals, and a clean end
connection  what is closed if nothing is asked on it
app         which path leads to what
guard       whom the server answers, and what browsers are told
service     what endpoints share: `open_service`

searching   /search, this server's own endpoint; `words` reads its lines
knn         clip-retrieval's endpoints
openai      /v1/embeddings
thumbnails  /image/7: images by the number of their row, encoded anew
metrics     /metrics: counts and times
page/       /: the page, which needs nothing from elsewhere

batching    questions that come together are answered together, by one thread
apart       work for many at once, in which the fault of one is not that of all
questions   what the model is asked, and the answers to many at once
reading     files that are read without the model
requests    JSON within limits
fields      what is in it, taken by name; the rest is refused
refusal     requests that are not answered, and how that is told
limits      what one request may take, and how many may wait

It needs Starlette and uvicorn, which the extra `serve` installs.
"""
