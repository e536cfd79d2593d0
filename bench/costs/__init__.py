"""What `bench_probes.py` is made of: a load generator in C, servers, agents to be measured, and one module for each question.

Nothing here is asserted and nothing is imported by the product. Every process that is started ends with the block that started it.
"""
