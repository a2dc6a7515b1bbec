"""What a model knows: evaluations, explanations, ensembles, slices, wrong labels and cards of logged runs."""
