"""The runbook language: text in, one resolved Runbook out."""
