// Addresses of MLflow's own pages begin with #/ and are kept when the server sends a browser here.
if (location.hash.startsWith("#/")) location.replace("/?mlflow" + location.hash);
