"""Many runs: sweeps of hyper-parameters, comparisons over seeds, pictures of trained models."""
