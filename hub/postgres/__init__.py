"""The registry in PostgreSQL, which many relay servers share; needs the extra ``postgres``. All of its SQL is here."""
