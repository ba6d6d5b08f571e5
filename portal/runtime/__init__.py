"""The infrastructure of the process: settings, logs, metrics, mail, database, gateways."""
