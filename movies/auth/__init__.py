"""Accounts, passwords, sign-ins and tokens."""
