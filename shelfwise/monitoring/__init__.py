"""What happens after a model goes live: how right it is, whether its inputs drift, and what asks for a retrain."""
