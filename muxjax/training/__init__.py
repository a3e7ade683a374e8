"""How the demo models are made: corpora, tokenizers, recipes, the training loop and its evaluation."""
