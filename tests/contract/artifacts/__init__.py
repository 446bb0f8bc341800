"""What an artifact service promises, asked of ADK's own services and of ours."""
