-- With as many digits as mean something
CREATE FUNCTION brief(float8) RETURNS text LANGUAGE sql
RETURN round($1::numeric, CASE WHEN $1 < 0.0995 THEN 3 WHEN $1 < 9.95 THEN 2 WHEN $1 < 99.5 THEN 1 ELSE 0 END)::text;
