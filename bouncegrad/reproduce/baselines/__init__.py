"""What relational inference is compared with: prediction without relations, relations without a model of motion."""
