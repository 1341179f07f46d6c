"""Serve a folder of embeddings: endpoints for programs, and a search page for people.

server      runs the application on a socket, and stops it cleanly on a signal
connection  closes connections without requests
app         the application: paths and their endpoints
guard       rejects requests from other sites, and sets security headers
service     the state that endpoints share: `open_service`

searching   /search, this server's own endpoint; `words` splits its lines
knn         clip-retrieval's endpoints
openai      /v1/embeddings
thumbnails  /image/7: images by the number of their row, encoded again
metrics     /metrics: counts and times
page/       /: the page, which loads nothing from other servers

batching    answers questions that arrive together in one batch, in one thread
apart       runs work for many at once, and isolates the item that fails
questions   questions to the model, and answers to many at once
reading     reads files in threads that do not use the model
requests    reads JSON within limits
fields      takes the fields of a request by name, and rejects unknown ones
refusal     requests that are rejected, and the form of the error
limits      limits of single requests, and of waiting ones

It needs Starlette and uvicorn, which the extra `serve` installs.
"""
