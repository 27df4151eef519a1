"""A patch -> a verdict: hidden tests run in a fresh sandbox, read by the grader of the task's kind."""
