"""Lifecycle manager, health monitor, bring-up and the rvm command."""
