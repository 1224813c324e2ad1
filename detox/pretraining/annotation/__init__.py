"""Risk labels for documents: from a sentence scorer, a word list, or spans in the data; in memory, or file to file."""
