"""What the process lives on: settings, logs, metrics, mail, database, gateways."""
