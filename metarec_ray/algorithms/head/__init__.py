"""The head of many tasks at once: what it learns by descent, what it answers, and the way back.

`descent` is the face. What the head reads is made of parameters by autograd (`reading`) and cut
into parts of tasks of like length (`cuts`); each part descends (`part`), scores other rows and goes
back through its steps (`answer`); to autograd all of that is one operation (`scores`).
"""
