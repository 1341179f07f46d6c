"""The registered operators: schema, fake, autograd, dispatch and validation. Imports torch only."""
