"""The Flask extensions, which `create_app` initializes."""

from flask_jwt_extended import JWTManager
from flask_migrate import Migrate
from flask_smorest import Api

from movies.database import Base, Database

db = Database(model_class=Base)
migrate = Migrate()
jwt = JWTManager()
api = Api()
