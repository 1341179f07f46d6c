"""What the tests share: exact values, error budgets, inputs that find bugs."""
