"""The paper's two tables, made by training and testing every row of them."""
