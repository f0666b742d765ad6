"""Front: takes files and questions from clients, and orchestrates blob and job."""
