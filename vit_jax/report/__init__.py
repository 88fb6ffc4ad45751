"""Tables, laws, plots and pages of runs. Reads run folders only; imports nothing that trains."""
