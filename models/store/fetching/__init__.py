"""Getting the files of models: from hubs and out of wheels, in parts, by hash."""
