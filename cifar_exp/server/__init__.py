"""The team's server: MLflow's server with logins, the rules of review, an audit trail, and pages for reviewers.

mlflow server --app-name cifar-exp --backend-store-uri sqlite:///mlflow.db
"""
