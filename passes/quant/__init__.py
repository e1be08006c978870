"""The planner, and the small passes that carry a plan out."""
