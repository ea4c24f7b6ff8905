-- Ten tables as a Supabase project has them: the identity in auth.users, to which the
-- application's profiles refer, and files in storage.objects without a foreign key.

CREATE SCHEMA auth;
CREATE TABLE auth.users (id uuid PRIMARY KEY, email varchar(255));
CREATE TABLE auth.identities (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE, provider text);
CREATE TABLE auth.sessions (id uuid PRIMARY KEY, user_id uuid NOT NULL REFERENCES auth.users (id) ON DELETE CASCADE);
CREATE TABLE auth.refresh_tokens (id bigserial PRIMARY KEY, session_id uuid REFERENCES auth.sessions (id) ON DELETE CASCADE);
CREATE SCHEMA storage;
CREATE TABLE storage.objects (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), bucket_id text, name text, owner_id text);

CREATE TABLE profiles (id uuid PRIMARY KEY REFERENCES auth.users (id) ON DELETE CASCADE, username text, deletion_scheduled_at timestamptz);
CREATE TABLE posts (id bigserial PRIMARY KEY, user_id uuid NOT NULL REFERENCES profiles (id) ON DELETE CASCADE, body text);
CREATE TABLE comments (id bigserial PRIMARY KEY, post_id bigint NOT NULL REFERENCES posts (id) ON DELETE CASCADE, user_id uuid REFERENCES profiles (id) ON DELETE SET NULL);
CREATE TABLE follows (follower uuid REFERENCES profiles (id) ON DELETE CASCADE, followed uuid REFERENCES profiles (id) ON DELETE CASCADE, PRIMARY KEY (follower, followed));
CREATE TABLE subscriptions (id bigserial PRIMARY KEY, user_id uuid, stripe_id text);

CREATE INDEX ON auth.identities (user_id);
CREATE INDEX ON auth.sessions (user_id);
CREATE INDEX ON auth.refresh_tokens (session_id);
CREATE INDEX ON storage.objects (owner_id);
CREATE INDEX ON profiles (deletion_scheduled_at);
CREATE INDEX ON posts (user_id);
CREATE INDEX ON comments (post_id);
CREATE INDEX ON comments (user_id);
CREATE INDEX ON follows (followed);
CREATE INDEX ON subscriptions (user_id);

INSERT INTO auth.users SELECT md5(n::text)::uuid, 'user' || n || '@example.org' FROM generate_series(1, 10) n;
INSERT INTO auth.identities (user_id, provider) SELECT id, 'email' FROM auth.users;
INSERT INTO auth.sessions SELECT md5(id::text)::uuid, id FROM auth.users;
INSERT INTO auth.refresh_tokens (session_id) SELECT id FROM auth.sessions, generate_series(1, 3);
INSERT INTO storage.objects (bucket_id, name, owner_id) SELECT 'avatars', id, id FROM auth.users;
INSERT INTO profiles SELECT id, email, CASE WHEN email IN ('user1@example.org', 'user2@example.org') THEN now() - interval '1 day' END FROM auth.users;
INSERT INTO posts (user_id) SELECT id FROM profiles, generate_series(1, 3);
INSERT INTO comments (post_id, user_id) SELECT p.id, u.id FROM posts p, profiles u WHERE p.id % 3 = 1;
INSERT INTO follows SELECT a.id, b.id FROM profiles a, profiles b WHERE a.id < b.id;
INSERT INTO subscriptions (user_id) SELECT id FROM profiles;
ANALYZE;
