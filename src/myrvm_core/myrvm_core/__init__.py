"""ROS-free: domain types, deposit state machine, acceptance rules, settings, i18n, logging."""
